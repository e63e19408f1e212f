"""Tables from strangers: CSV in whatever dialect, gzipped or not, or Parquet, with columns found by any of their usual names.

`read_table` brings a file in as text, so that no number is rounded and no identifier mistaken for one; a `Checked` table then
turns columns into numbers and times, and collects everything that is wrong, each with the first row it concerns.
"""

import csv
import difflib
import gzip
import hashlib
import io
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from calibrate.data.times import EARLIEST_MS, LATEST_MS, UNIX_UNITS_PER_MS, iso_time
from calibrate.errors import Problem, UserError, raise_all

SEPARATORS = ",;\t|"


class Checked:
    """A table of text under check. Columns keep the file's own names in what is said about them; rows are counted as a person
    does, from 1 below the header."""

    def __init__(self, path: Path, frame: pd.DataFrame, sha256: str, decimal_comma: bool):
        self.path, self.frame, self.sha256 = path, frame, sha256
        self.problems: list[Problem] = []
        self._decimal_comma = decimal_comma
        self._own = {str(name).strip().lower(): name for name in reversed(frame.columns)}
        if frame.empty:
            raise UserError([Problem(str(path), "found a header but no rows; expected one entry a row")])

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
        listed = ", ".join(str(name) for name in self.frame.columns[:12])
        expected = f"expected {what}, in a column called {' or '.join(names)}"
        self.add("columns", f"found {listed}; {expected}{hint}")

    def text(self, *names: str) -> np.ndarray:
        """The first of these columns that there is, without spaces around."""
        return self.frame[self._column(names)].str.strip().to_numpy(dtype=str)

    def numbers(self, *names: str, low: float = -np.inf, above: bool = True, expected: str = "a number") -> np.ndarray:
        """A column of numbers above `low` (or at least `low`); rows that hold none are reported and become NaN."""
        column = self._column(names)
        shown = self.text(*names)
        plain = pd.Series(shown).str.replace(",", ".") if self._decimal_comma else pd.Series(shown)
        values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64)
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
        numbers = pd.to_numeric(pd.Series(shown), errors="coerce").to_numpy(dtype=np.float64)
        if np.isfinite(numbers).any():
            size = np.nanmedian(np.abs(numbers))
            milliseconds = numbers / next(unit for limit, unit in UNIX_UNITS_PER_MS if size < limit)
        else:
            dates = pd.to_datetime(pd.Series(shown), errors="coerce", utc=True, format="ISO8601")
            naive = dates.dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
            milliseconds = np.where(np.isnat(naive), np.nan, naive.astype(np.int64).astype(np.float64))
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
        self.add(f"{column}, row {row + 1}", f"found {found}{more}; expected {expected}; mend or remove these rows")

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


def read_table(path: Path, kind: str) -> Checked:
    """Read a file as a table of text; `kind` says in messages what it should hold ("rounds of a price feed")."""
    try:
        content = path.read_bytes()
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot read the file ({found}); expected a table of {kind}")]) from None
    sha256 = hashlib.sha256(content).hexdigest()
    if not content:
        raise UserError([Problem(str(path), f"found an empty file; expected a table of {kind}")])
    try:
        frame, decimal_comma = _parsed(content)
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException, pd.errors.ParserWarning) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        expected = f"expected CSV, gzipped CSV or Parquet with {kind}"
        raise UserError([Problem(str(path), f"not a table ({found}); {expected}; check the file")]) from None
    twice = sorted({str(name) for name in frame.columns[frame.columns.str.strip().str.lower().duplicated()]})
    if twice:
        raise UserError([Problem(f"{path}: columns", f"found {', '.join(twice)} more than once; expected each once")])
    return Checked(path, frame, sha256, decimal_comma)


def _parsed(content: bytes) -> tuple[pd.DataFrame, bool]:
    """The table as text, and whether its numbers have decimal commas. The kind of file is told by its first bytes."""
    if content[:4] == b"PAR1":
        frame = pd.read_parquet(io.BytesIO(content))
        frame = frame.reset_index(drop=frame.index.name is None)
        frame.columns = frame.columns.astype(str)
        return pd.DataFrame({name: _as_text(frame[name]) for name in frame.columns}), False
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    text = content.decode("utf-8-sig")
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)
    with warnings.catch_warnings():
        # Rows longer than the header would otherwise be cut with no more than a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            dtype=str,
            index_col=False,
            keep_default_na=False,
            quoting=csv.QUOTE_MINIMAL,
        )
    frame = frame[~(frame == "").all(axis=1)].reset_index(drop=True).fillna("")
    return frame, separator == ";" and bool(frame.apply(lambda c: c.str.fullmatch(r"\s*-?\d+,\d+\s*")).any(axis=None))


def _as_text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.map(lambda time: "" if pd.isna(time) else time.isoformat()).astype(str)
    return column.map(lambda value: "" if pd.isna(value) else str(value)).astype(str)


def span(seconds: np.ndarray) -> tuple[str, str]:
    """The first and last of some times, ISO 8601 in UTC."""
    return iso_time(1000 * float(seconds.min())), iso_time(1000 * float(seconds.max()))
