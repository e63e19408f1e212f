"""How a text table is written, told from its first lines: what stands before the table, what separates its fields, which
sign the decimals have, and whether the first line names the columns.

What cannot be told is not guessed: "1,234" may be one and a bit or over a thousand, and a file in which every comma
could be either is refused.
"""

import codecs
import csv
import re
from dataclasses import dataclass

import pandas as pd

from calibrate.data.times import is_date

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_PREAMBLE = re.compile(r"""\s*["']?(#|//|https?://|sep=)""", re.IGNORECASE)
_MOST_PREAMBLE_LINES = 50
_NUMBER = re.compile(r"[+-]?(\d[\d.,]*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_COMMA_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+")
_POINT_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+")
_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
_POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


class NotATable(ValueError):
    """A text that holds no table; the message says why."""


@dataclass(frozen=True)
class Dialect:
    """`preamble` lines stand before the table; `first_row` is its first line, which names the columns if `has_names`."""

    encoding: str
    preamble: int
    delimiter: str
    quote: str
    decimal: str
    thousands: str | None
    first_row: tuple[str, ...]
    has_names: bool

    def __str__(self) -> str:
        parts = [f"{DELIMITERS[self.delimiter]}-separated"]
        if self.encoding != "utf-8":
            parts.append(self.encoding)
        if self.preamble:
            parts.append(f"{self.preamble} line{'s' if self.preamble > 1 else ''} before the table")
        if self.decimal == ",":
            parts.append("decimal commas")
        if self.thousands:
            parts.append(f"thousands set apart by {self.thousands!r}")
        if not self.has_names:
            parts.append("no line of names")
        return ", ".join(parts)

    def plain(self, texts: pd.Series) -> pd.Series:
        """Texts, those that are numbers with a decimal point and with nothing between thousands."""
        if (self.decimal, self.thousands) == (".", None):
            return texts
        made = texts.str.replace(self.thousands, "", regex=False) if self.thousands else texts
        return texts.where(~texts.str.fullmatch(_NUMBER), made.str.replace(self.decimal, ".", regex=False))


def sniff(head: bytes, *, whole: bool) -> Dialect:
    """The dialect of a text of which `head` is the beginning, or `whole`."""
    encoding, text = _decode(head, whole=whole)
    lines = text.splitlines()
    if not whole and len(lines) > 1:
        lines = lines[:-1]  # cut somewhere
    kept = next((place for place, line in enumerate(lines) if line.strip() and not _PREAMBLE.match(line)), None)
    if kept is None:
        raise NotATable("found no rows")
    quote = "'" if lines[kept].lstrip().startswith("'") else '"'
    delimiter, first = _delimiter(lines, kept, quote)
    rows = _fields(lines[first : first + 200], delimiter, quote)
    wide = next((place for place, row in enumerate(rows) if len(row) > len(rows[0])), None)
    if wide:
        raise NotATable(f"found {len(rows[wide])} fields in row {wide}, {len(rows[0])} in the first line")
    values = [value.strip() for row in rows[1:] or rows for value in row]
    decimal, thousands = _decimal(values, delimiter)
    names = tuple(value.strip() for value in rows[0])
    return Dialect(encoding, first, delimiter, quote, decimal, thousands, names, _are_names(names))


def _decode(head: bytes, *, whole: bool) -> tuple[str, str]:
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked = next((encoding for mark, encoding in marks.items() if head.startswith(mark)), None)
    if marked:
        return marked, codecs.getincrementaldecoder(marked)().decode(head, final=whole)
    if b"\0" in head:
        raise NotATable("found binary content")
    try:
        return "utf-8", codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return "cp1252", head.decode("cp1252", errors="replace")


def _delimiter(lines: list[str], first: int, quote: str) -> tuple[str, int]:
    """The sign that cuts a line into the most fields, the same number in the line below; and which line that is: titles
    of a single field may stand above."""
    for place in range(first, min(len(lines), first + _MOST_PREAMBLE_LINES)):
        below = next((line for line in lines[place + 1 :] if line.strip()), lines[place])
        best = max(DELIMITERS, key=lambda sign: _width(lines[place], below, sign, quote))
        if _width(lines[place], below, best, quote) > 1:
            return best, place
    return ",", first


def _width(line: str, below: str, delimiter: str, quote: str) -> int:
    first, second = (len(_fields([text], delimiter, quote)[0]) for text in (line, below))
    return first if abs(first - second) <= 1 else min(first, 1)


def _fields(lines: list[str], delimiter: str, quote: str) -> list[list[str]]:
    try:
        rows = csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True)
        return [row for row in rows if row] or [[""]]
    except csv.Error as error:
        raise NotATable(str(error)) from None


def _are_names(values: tuple[str, ...]) -> bool:
    """Whether at least half of the fields say something other than a number or a date; a row of data may hold a symbol."""
    told = [value for value in values if value]
    names = [value for value in told if not _NUMBER.fullmatch(value) and not is_date(value)]
    return 2 * len(names) >= max(len(told), 1)


def _decimal(values: list[str], delimiter: str) -> tuple[str, str | None]:
    """The sign of decimals and the sign between thousands."""
    if any(_COMMA_THOUSANDS.fullmatch(value) for value in values):
        return ".", ","
    if any(_POINT_THOUSANDS.fullmatch(value) for value in values):
        return ",", "."
    commas = [value for value in values if _COMMA.fullmatch(value)]
    if not commas or any(_POINT.fullmatch(value) for value in values):
        return ".", None
    if all(_EITHER.fullmatch(value) for value in commas):
        raise NotATable(
            f"found numbers such as {commas[0]}, in which the comma may stand before decimals or between thousands; "
            "expected one or the other; write the file with decimal points"
        )
    return ",", None
