/* SPDX-License-Identifier: MIT
 *
 * A program that is linked with a malloc of its own, another_malloc.c.
 */
int main(void) { return 0; }
