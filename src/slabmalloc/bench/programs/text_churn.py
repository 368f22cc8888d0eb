# SPDX-License-Identifier: MIT
"""Lists and strings: split, joined, sliced, sorted, formatted."""

from __future__ import annotations


def run(scale: int) -> int:
    """240 pages of text per unit of scale; one in ten is kept."""
    kept: list[list[str]] = []
    total = 0
    for page in range(240 * scale):
        words = [f"{(page * 31 + n * 17) % 9973:04x}" for n in range(120)]
        text = " ".join(words)
        lines = [text[start : start + 72] for start in range(0, len(text), 72)]
        sentences = [line.strip().upper() + "." for line in lines]
        parts = sorted("\n".join(sentences).replace("A", "(a)").split())
        total += len(parts) + len("".join(parts[::2]))
        letters = list(text)
        letters.reverse()
        total += len(letters)
        if page % 10 == 0:
            kept.append(parts)
    return total + len(kept)
