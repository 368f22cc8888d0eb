# SPDX-License-Identifier: MIT
"""Measuring slabmalloc beside stock and its peers (floor 6): what ``slabmalloc bench`` is made of, and `benchmarks/`.

Who is measured: `peers` finds other allocators; `commands` are the ways to run a program on one or the other;
`malloc_in_c` compiles what asks `malloc` directly.
What is measured: `tasks` says what a task and a measure are; `sections` are those of the verb; `programs/` and `c/`
are the programs themselves, which know nothing of slabmalloc; `statements` are those that use the library.
How: `children` runs one fresh process; `comparison` goes through tasks in turns; `figures` are medians and quartiles
of ratios within a round; `schedule` is the order of all work, and when it ends.
What comes out: `outcome` the rows, `tables` text, `page` the page in HTML with its `charts`; `machine` is what a reader
must know to judge them.
"""
