# SPDX-License-Identifier: MIT
"""The report as one page in HTML (floor 6): it needs nothing but itself, and tells what was lost before all details."""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from .commands import HARDENED, HARDENED_SIDES, OURS, STOCK
from .outcome import LOST, MEAN
from .page_rows import Colors, figure, figures_table, hardened_plot, judged, legend, memory, plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .outcome import Row
    from .page_rows import Named
    from .report import Report, SectionReport

__all__ = ["page"]

GLANCE_ROWS = 3
"""A section without means is shown at a glance if it has no more rows than this."""

FIRST_LOSSES = 20
"""So many are in view, the rest is folded."""

ABOUT_HARDENED = (
    "What --hardened costs, and what the allocators cost that do the like. In bold its ratio to stock; below that to "
    "slabmalloc without it, and to each of those allocators."
)


def page(report: Report) -> str:
    """The whole text."""
    css = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    colors = Colors(report)
    sections = [section for section in report.sections if section.rows]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>slabmalloc bench, {escape(report.started[:10])}</title>",
        f"<style>\n{css}</style>\n</head>\n<body>",
        _header(report, sections),
        "<main>",
        _glance(report, sections, colors),
        _losses(report),
        *(_section(section, colors) for section in sections),
        _method(report),
        _machine(report),
        "</main>",
        f"<footer><code>{escape(report.command)}</code>; the JSON file of the same run has every figure.</footer>",
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _card(name: str, title: str, parts: Sequence[str]) -> str:
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n' + "\n".join(filter(None, parts)) + "\n</section>"


def _header(report: Report, sections: Sequence[SectionReport]) -> str:
    facts = report.machine
    line = f"CPython {facts['python']} · {facts['processor']}, {_count(facts['processors'], 'processor')} · "
    line += f"{report.started[:10]} · {_duration(report.seconds)}"
    links = [("lost", "What slabmalloc loses")]
    links += [(section.result.section.name, section.title) for section in sections]
    links += [("method", "Method"), ("machine", "Machine and versions")]
    return "\n".join(
        [
            "<header>",
            f"<h1>slabmalloc beside {escape(_listed([STOCK, *report.peers]))}</h1>",
            f'<p class="about">{escape(line)}</p>',
            *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
            "<nav>" + "".join(f'<a href="#{target}">{escape(title)}</a>' for target, title in links) + "</nav>",
            "</header>",
        ]
    )


def _glance(report: Report, sections: Sequence[SectionReport], colors: Colors) -> str:
    """The means, and whole sections that have few rows."""
    rows: list[Named] = []
    hardened: list[Named] = []
    for section in sections:
        means = [row for row in section.rows if row.name.startswith(MEAN)]
        chosen = means or (section.rows if len(section.rows) <= GLANCE_ROWS else [])
        for row in chosen:
            name = f"{section.title}: {row.measure}" if row in means else f"{row.name}: {row.measure}"
            rows.append((row, name, row.name if row in means else ""))
            if HARDENED in row.cells:
                hardened.append(rows[-1])
    if not rows:
        return ""
    sides = [STOCK, OURS, *(peer for peer in report.peers if peer not in HARDENED_SIDES)]
    versions = {STOCK: f"CPython {report.machine['python']}", OURS: report.machine["packages"]["slabmalloc"]}
    about = (
        "Each bar is a ratio to stock: to the left of 1 is less time or memory, which is better; to the right is more. "
        "The axis is logarithmic; whiskers reach from quartile to quartile of the rounds."
    )
    versions |= report.machine["peers"]
    parts = [_about(about), legend(sides, colors, versions), plot(rows, sides, colors)]
    if hardened:
        sides = [STOCK, OURS, HARDENED, *(peer for peer in report.peers if peer in HARDENED_SIDES)]
        parts += ["<h3>Hardened</h3>", _about(ABOUT_HARDENED)]
        parts += [legend(sides, colors, versions), hardened_plot(hardened, sides, colors)]
    return _card("glance", "At a glance", parts)


def _losses(report: Report) -> str:
    """What slabmalloc lost to stock or to the best peer."""
    counted = [row for row in report.rows if row.verdicts]
    title = "What slabmalloc loses"
    if not counted:
        return _card("lost", title, ["<p>slabmalloc was compared with nobody.</p>"])
    of_peers = [row for row in counted if row.to_best]
    to_stock = sum(row.verdicts.get(STOCK) == LOST for row in counted)
    to_best = sum(row.verdicts[row.to_best.against] == LOST for row in of_peers if row.to_best)
    said = f"{to_stock} of {_count(len(counted), 'row')} to stock"
    said += f", {to_best} of {len(of_peers)} to the best peer" if of_peers else ""
    said += ". A row is lost if the ratio is above 1.01 and its lower quartile above 1, or above 1.05 after fewer than "
    said += "three rounds; the best peer is the one that leaves us the worst ratio."
    said = f"{said} {report.hardened_losses}".strip()
    titles = {section.result.section.name: section.title for section in report.sections}
    rows = [_loss(row, titles[row.section]) for row in report.lost]
    first, rest = "".join(rows[:FIRST_LOSSES]), "".join(rows[FIRST_LOSSES:])
    more = f"<details><summary>{_count(len(rows) - FIRST_LOSSES, 'more row')}</summary>{rest}</details>" if rest else ""
    return _card("lost", title, [_about(said), first or "<p>None.</p>", more])


def _loss(row: Row, title: str) -> str:
    """A row by its name, our ratios, and the figures."""
    ours, stock = figure(row, OURS), figure(row, STOCK)
    figures = f' <small class="figures">({ours} to {stock})</small>' if ours else ""
    cells = [
        f'<div class="name">{escape(title)}: {escape(row.name)} <small>{escape(row.measure)}</small></div>',
        f"<div>{judged(row, row.ours)} <small>of stock</small>{figures}</div>",
        f"<div>{judged(row, row.to_best)}</div>",
    ]
    return f'<div class="loss">{"".join(cells)}</div>\n'


def _section(section: SectionReport, colors: Colors) -> str:
    """Its plots, memory over time, what failed, all figures."""
    result = section.result
    sides = [side for side in result.sides if any(side in row.cells for row in section.rows)]
    parts = [_about(result.section.about), legend([side for side in sides if side not in HARDENED_SIDES], colors)]
    for measure, rows in section.groups:
        if measure:
            parts.append(f"<h3>{escape(_capital(measure))}</h3>" if len(section.groups) > 1 else "")
            parts.append(plot([(row, row.name, "") for row in rows], sides, colors))
        else:
            parts.append(plot([(row, _capital(row.measure), row.name) for row in rows], sides, colors))
    parts += _hardened(section, sides, colors)
    parts.append(memory(section, colors))
    parts += [f'<p class="note">Failed: {escape(line)}</p>' for line in section.failures]
    return _card(result.section.name, section.title, [*parts, figures_table(section, sides)])


def _hardened(section: SectionReport, sides: Sequence[str], colors: Colors) -> list[str]:
    """Plots of the hardened mode beside its peers."""
    if not section.hardened_groups:
        return []
    there = [side for side in sides if side in (STOCK, OURS, *HARDENED_SIDES)]
    parts = ["<h3>Hardened</h3>", legend(there, colors)]
    for measure, rows in section.hardened_groups:
        parts.append(f"<h4>{escape(_capital(measure))}</h4>" if len(section.hardened_groups) > 1 else "")
        named = [(row, row.name, "") if measure else (row, _capital(row.measure), row.name) for row in rows]
        parts.append(hardened_plot(named, there, colors))
    return parts


def _method(report: Report) -> str:
    """How it was measured, and what was not."""
    size = report.size
    about = [
        f"Programs ran at {size.percent} % of full size, each process a fresh one. A round runs every side once, and "
        "the next begins with another side, so that all see the same machine. A ratio is taken within a round; "
        "shown are the median over the rounds and the quartiles.",
        "Stock is the interpreter as it is, slabmalloc <code>slabmalloc run --quiet</code>. A peer is preloaded with "
        "its own defaults, and CPython is told to ask it for everything (<code>PYTHONMALLOC=malloc</code>). Strings "
        "have the same hashes in all processes; a program that computes something else on one side has failed.",
        "Hardened is <code>slabmalloc run --hardened --quiet</code>, in C <code>SLABMALLOC_HARDENED=1</code>. It is "
        "compared with hardened_malloc and mimalloc's secure build where they are there; slabmalloc without it is not.",
        "Time is processor time where nothing else is said, which leaves out most of what other processes do. Peak "
        "memory is <code>VmHWM</code>, memory after release the proportional share (PSS), as the kernel tells them.",
    ]
    parts = [f"<p>{text}</p>" for text in about]
    if report.left_out:
        parts += ["<h3>Not measured</h3>", _pairs(report.left_out)]
    return _card("method", "Method", parts)


def _machine(report: Report) -> str:
    """The machine, the versions, the command."""
    facts = report.machine
    memory_kib = facts["memory_kib"]
    rows = {
        "Processor": f"{facts['processor']} ({facts['architecture']}), {_count(facts['processors'], 'processor')}",
        "Memory": f"{int(memory_kib) / 2**20:.1f} GiB" if memory_kib.isdigit() else memory_kib,
        "Kernel": facts["kernel"],
        "C library": facts["c_library"],
        "Transparent huge pages": facts["transparent_huge_pages"],
        "Load before, after": f"{_load(report.load_before)}; {_load(facts['load_average'])}",
        "CPython": facts["python"],
        **facts["packages"],
        **facts["peers"],
        "C compiler": facts["compiler"] or "none",
        "Settings": " ".join(f"{name}={value}" for name, value in facts["settings"].items()) or "none",
        "Started": report.started,
        "Measured for": _duration(report.seconds),
        "Command": report.command,
    }
    return _card("machine", "Machine and versions", [_pairs(rows)])


def _pairs(rows: Mapping[str, str]) -> str:
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
    return f"<dl>{told}</dl>"


def _about(text: str) -> str:
    return f'<p class="about">{escape(text)}</p>'


def _capital(measure: str) -> str:
    """As a title; what is code stays.

    >>> _capital("peak memory"), _capital("gc.collect()")
    ('Peak memory', 'gc.collect()')
    """
    return measure if "(" in measure else measure[0].upper() + measure[1:]


def _load(average: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in average)


def _listed(names: Sequence[str]) -> str:
    """As one says it.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _duration(seconds: float) -> str:
    """As one reads it.

    >>> _duration(59), _duration(125)
    ('59 s', '2 min 5 s')
    """
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
