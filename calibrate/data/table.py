"""Tables of one entry a row: rounds of a feed, quotes, borrowers, with columns found by any of their usual names.

`read_table` brings in the columns that may be asked for as text, so that no number is rounded and no identifier mistaken for
one, through the reader of all tables (`table_file.py`, `dialect.py`); a `Checked` table then turns columns into numbers and
times, and collects everything that is wrong, each with the first row it concerns.
"""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.data.table_file import TableFile, open_table
from calibrate.data.times import EARLIEST_MS, LATEST_MS, iso_time, numbers_of, unix_ms
from calibrate.errors import Problem, UserError, raise_all


class Checked:
    """A table of text under check. Columns keep the file's own names in what is said about them; rows are counted as a person
    does, from 1 below the header, empty ones too. `frame` has these numbers for its index."""

    def __init__(self, file: TableFile, frame: pd.DataFrame):
        self.path, self.sha256, self.frame = file.path, file.sha256, frame
        self.problems: list[Problem] = []
        self._file = file
        self._own = {_key(name): name for name in reversed(file.columns)}
        if not len(frame):
            raise UserError([Problem(str(file.path), "found a header but no rows; expected one entry a row")])

    @property
    def rows(self) -> int:
        return len(self.frame)

    def has(self, *names: str) -> bool:
        """Whether there is a column by any of these names."""
        return any(name in self._own for name in names)

    def require(self, what: str, names: Sequence[str]) -> None:
        """Report a column that is missing under all of its names, with what comes close to one of them."""
        if self.has(*names):
            return
        close = [own for name in names for own in difflib.get_close_matches(name, self._own, n=1, cutoff=0.75)]
        hint = f"; did you mean {self._own[close[0]]} to be called {names[0]}?" if close else ""
        listed = ", ".join(self._file.columns[:12])
        expected = f"expected {what}, in a column called {' or '.join(names)}"
        self.add("columns", f"found {listed}; {expected}{hint}")

    def text(self, *names: str) -> np.ndarray:
        """The first of these columns that there is, without spaces around."""
        return self.frame[self._column(names)].str.strip().to_numpy(dtype=str)

    def numbers(self, *names: str, low: float = -np.inf, above: bool = True, expected: str = "a number") -> np.ndarray:
        """A column of numbers above `low` (or at least `low`); rows that hold none are reported and become NaN."""
        column = self._column(names)
        shown = self.text(*names)
        values = numbers_of(self._plain(shown))
        within = values > low if above else values >= low
        self.wrong(~(np.isfinite(values) & within), column, shown, expected)
        return values

    def integers(self, *names: str) -> list[int | None]:
        """A column of whole numbers of any size; rows that hold none are reported and become None."""
        column, shown = self._column(names), self.text(*names)
        whole = np.array([text.removesuffix(".0").isdecimal() for text in shown], dtype=bool)
        self.wrong(~whole, column, shown, "a whole number")
        return [int(text.removesuffix(".0")) if good else None for text, good in zip(shown, whole, strict=True)]

    def seconds(self, *names: str) -> np.ndarray:
        """A column of times as Unix seconds, from seconds to nanoseconds or ISO dates (UTC unless they say otherwise)."""
        column, shown = self._column(names), self.text(*names)
        milliseconds, _ = unix_ms(self._plain(shown), one_unit=True)
        expected = "a time between 2000 and 2100, as Unix time in one unit throughout or as ISO dates"
        self.wrong(~((milliseconds >= EARLIEST_MS) & (milliseconds < LATEST_MS)), column, shown, expected)
        return milliseconds / 1000

    def wrong(self, rows: np.ndarray, column: str, shown: Sequence[object] | np.ndarray, expected: str) -> None:
        """One problem for all rows that are wrong, placed at the first of them."""
        if not rows.any():
            return
        row, count = int(np.argmax(rows)), int(np.count_nonzero(rows))
        found = shown[row] if str(shown[row]) else "nothing"
        more = f" (the first of {count:,} such rows)" if count > 1 else ""
        message = f"found {found}{more}; expected {expected}; mend or remove these rows"
        self.add(f"{column}, row {self.number_of(row)}", message)

    def number_of(self, place: int) -> int:
        """By which number a person knows a row, of those that hold something."""
        return int(self.frame.index[place])

    def add(self, where: str, message: str) -> None:
        self.problems.append(Problem(f"{self.path}: {where}" if where else str(self.path), message))

    def done(self) -> None:
        """Raise what was found to be wrong, all together."""
        raise_all(self.problems)

    def name_of(self, *names: str) -> str:
        """The file's own name of a column."""
        return str(self._column(names))

    def _column(self, names: Sequence[str]) -> str:
        return next(self._own[name] for name in names if name in self._own)

    def _plain(self, shown: np.ndarray) -> pd.Series:
        texts = pd.Series(shown)
        return texts if self._file.dialect is None else self._file.dialect.plain(texts)


def read_table(path: Path, kind: str, names: Collection[str]) -> Checked:
    """Read a file as a table of text; `kind` says in messages what it should hold ("rounds of a price feed"), and `names` which
    columns may be asked for: no others are kept."""
    expected = f"a table of {kind}"
    file = open_table(path, expected=expected)
    if file.width < 2:
        raise UserError(
            [Problem(str(path), f"not a table (found a single column); expected {expected}; check the file")]
        )
    if not file.columns:
        found = f"found {file.width} columns and no line that names them"
        raise UserError([Problem(f"{path}: columns", f"{found}; name them in the first line of the file")])
    own = [_key(name) for name in file.named]
    twice = sorted({name for place, name in enumerate(file.named) if own[place] in own[:place]})
    if twice:
        raise UserError([Problem(f"{path}: columns", f"found {', '.join(twice)} more than once; expected each once")])
    kept = [name for name in file.columns if _key(name) in names]
    pieces, before = [], 0
    for piece in file.pieces(list(file.columns), as_text=True):
        piece.index = pd.RangeIndex(before + 1, before + len(piece) + 1)
        before += len(piece)
        pieces.append(piece.loc[~(piece == "").all(axis=1), kept])
    return Checked(file, pd.concat(pieces) if pieces else pd.DataFrame(columns=kept))


def span(seconds: np.ndarray) -> tuple[str, str]:
    """The first and last of some times, ISO 8601 in UTC."""
    return iso_time(1000 * float(seconds.min())), iso_time(1000 * float(seconds.max()))


def _key(name: str) -> str:
    return name.strip().lower()
