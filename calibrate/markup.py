"""From text to HTML: the only place where text enters a page, and so the only place that must escape it.

Every function takes plain text, whoever wrote it, and returns markup. Pages put markup together and never touch text.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Verdict(NamedTuple):
    """A cell that says yes or no, in colour."""

    holds: bool


Cell = str | tuple[str, str] | Verdict  # a text; a text with a smaller line below; a verdict


def text(words: str) -> str:
    """Escaped, and with a value, its unit and its error on one line."""
    return escape(words).replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>"


def bullets(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(item)}</li>' for item in items)}</ul>"


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, kind: str = "") -> str:
    head = "".join(f"<th>{text(words)}</th>" for words in heads)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    opening = f'<table class="{escape(kind)}">' if kind else "<table>"
    head = f"<thead><tr>{head}</tr></thead>\n" if heads else ""
    return f'<div class="scroll">{opening}\n{head}<tbody>\n{body}\n</tbody>\n</table></div>'


def section(key: str, heading: str, content: str) -> str:
    return f'<section id="{escape(key)}">\n<h2>{text(heading)}</h2>\n{content}\n</section>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Verdict):
        return '<td class="yes">yes</td>' if cell.holds else '<td class="no">no</td>'
    if isinstance(cell, tuple):
        return f"<td>{text(cell[0])}{f'<small>{text(cell[1])}</small>' if cell[1] else ''}</td>"
    # Texts of several lines, such as a job, are kept as they were written.
    return f"<td><pre>{escape(cell.strip())}</pre></td>" if "\n" in cell else f"<td>{text(cell)}</td>"
