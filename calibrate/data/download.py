"""Downloads candles page by page into a Parquet file, and goes on after an interruption where it stopped.

While it runs, pages are appended to `FILE.part`, one line each; the file itself appears whole at the end and the part
vanishes. The file remembers what was asked for, so that the same command with a later end only asks for what is new.
Holes between pages are asked for a second time before they are believed, and then left as they are.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet

from calibrate.data.candle_columns import NAMES
from calibrate.data.candle_writing import check_target, write_candles
from calibrate.data.exchange import Refused
from calibrate.data.times import iso_time
from calibrate.errors import Problem, UserError
from calibrate.progress import Listener

NOTHING = np.empty((0, len(NAMES)))


class Source(Protocol):
    """Where bars come from; see `exchange.Market`."""

    venue: str
    symbol: str
    interval: str
    interval_ms: float
    page_bars: int

    def now_ms(self) -> float: ...

    def page(self, since_ms: float, until_ms: float | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Wanted:
    """What a file is to hold: bars of one market that open at `from_ms` (Unix milliseconds) or later."""

    venue: str
    symbol: str
    interval: str
    from_ms: int


@dataclass(frozen=True)
class Downloaded:
    """The file, how many bars it holds, how many of them are new, and until when the exchange was asked (ISO, UTC)."""

    path: Path
    bars: int
    new_bars: int
    asked_until: str


def download(source: Source, from_ms: float, to_ms: float, target: Path, listener: Listener) -> Downloaded:
    """Bars that open from `from_ms` on and have ended by `to_ms` and by now, into `target`."""
    if target.suffix.lower() != ".parquet":
        raise UserError([Problem(str(target), f"found the ending {target.suffix!r}; expected .parquet")])
    check_target(target)
    start, end = _whole_bars(source, from_ms, to_ms)
    wanted = Wanted(source.venue, source.symbol, source.interval, int(start))
    kept = _Kept.found(target, wanted)
    before, cursor = len(kept.bars), max(start, kept.until_ms)
    if cursor > start:
        listener.note(f"{before:,} bars up to {iso_time(cursor)} are there already")
    done = listener.stage(f"{source.symbol} {source.interval}", round((end - start) / source.interval_ms))
    done(round((min(cursor, end) - start) / source.interval_ms))
    for until, bars in pages(source, cursor, end):
        kept.add(until, bars)
        done(round((until - cursor) / source.interval_ms))
        cursor = until
    if not len(kept.bars):
        kept.part.unlink(missing_ok=True)
        raise UserError(
            [Problem(source.venue, f"has no bar of {source.symbol} from {iso_time(start)} to {iso_time(end)}")]
        )
    kept.finish(max(end, kept.until_ms))
    return Downloaded(target, len(kept.bars), len(kept.bars) - before, iso_time(kept.until_ms))


def _whole_bars(source: Source, from_ms: float, to_ms: float) -> tuple[float, float]:
    """The opens of the first bar and of the first bar that is not wanted any more, or still open."""
    step, now = source.interval_ms, source.now_ms()
    start, end = -(-from_ms // step) * step, min(to_ms, now) // step * step
    if end <= start:
        found = (
            f"found {iso_time(from_ms)} to {iso_time(to_ms)}, in which no bar has begun and ended by {iso_time(now)}"
        )
        raise UserError([Problem("--from, --to", f"{found}; expected at least one bar of {source.interval}")])
    return start, end


# --- paging --------------------------------------------------------------------------------------------------------------


def pages(source: Source, start: float, end: float) -> Iterator[tuple[float, np.ndarray]]:
    """All bars that open in [start, end), in pieces in time order, each with the time up to which nothing is missing that
    the exchange has.

    Exchanges answer "from here on" in three ways: with the first bars after it, however late; with those of the next span,
    perhaps none; with the newest. All three come out alike: an empty answer is stepped over, and what lies between the
    last bar known and the first bar given is asked for again from its end.
    """
    step, cursor, known, seen = source.interval_ms, start, start, False
    while cursor < end:
        bars = _from(source, cursor)
        if not len(bars) and seen:  # within a history nothing is believed at once
            bars = _from(source, cursor)
        seen = seen or bool(len(bars))
        if not len(bars):
            cursor = min(cursor + source.page_bars * step, end)
            yield cursor, bars
            continue
        bars = np.concatenate([_hole(source, known, min(bars[0, 0], end)), bars])
        cursor = known = min(bars[-1, 0] + step, end)
        yield cursor, _between(bars, start, end)


def _from(source: Source, start: float) -> np.ndarray:
    return _between(source.page(start), start, np.inf)


def _hole(source: Source, start: float, end: float) -> np.ndarray:
    """Bars in [start, end), asked for by both ends until nothing more comes between those known."""
    found, open_spans = [NOTHING], [(start, end)]
    while open_spans:
        start, end = open_spans.pop()
        if start >= end:
            continue
        try:
            bars = _between(source.page(start, end - 1), start, end)
        except Refused:  # exchanges that give one span at a time take no longer one, and leave no longer holes
            if end - start <= source.page_bars * source.interval_ms:
                raise
            continue
        if len(bars):
            found.append(bars)
            open_spans += [(start, bars[0, 0]), (bars[-1, 0] + source.interval_ms, end)]
    bars = np.concatenate(found)
    return bars[np.argsort(bars[:, 0])]


def _between(bars: np.ndarray, start: float, end: float) -> np.ndarray:
    """The bars that open in [start, end); an exchange may give others too."""
    return bars[(bars[:, 0] >= start) & (bars[:, 0] < end)]


# --- what is on disk -----------------------------------------------------------------------------------------------------


class _Kept:
    """The bars of `target` and of its part, and the time up to which they are all that there is."""

    def __init__(self, target: Path, wanted: Wanted):
        self.target, self.wanted = target, wanted
        self.part = target.with_name(f"{target.name}.part")
        self.until_ms = float(wanted.from_ms)
        self._pieces: list[np.ndarray] = []

    @classmethod
    def found(cls, target: Path, wanted: Wanted) -> "_Kept":
        kept = cls(target, wanted)
        if target.exists():
            kept._read_target()
        if kept.part.exists():
            kept._read_part()
        return kept

    @property
    def bars(self) -> np.ndarray:
        bars = np.concatenate([*self._pieces, NOTHING])
        return bars[np.unique(bars[:, 0], return_index=True)[1]]

    def add(self, until_ms: float, bars: np.ndarray) -> None:
        lines = [] if self.part.exists() else [asdict(self.wanted)]
        lines.append({"until_ms": until_ms, "bars": bars.tolist()})
        try:
            with self.part.open("ab") as file:
                file.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
        except OSError as error:
            raise UserError(
                [Problem(str(self.part), f"cannot be written ({error.strerror}); check the folder")]
            ) from error
        self._pieces.append(bars)
        self.until_ms = until_ms

    def finish(self, until_ms: float) -> None:
        self.until_ms = until_ms
        note = {key: str(value) for key, value in asdict(self.wanted).items()} | {"until_ms": str(int(until_ms))}
        write_candles(self.target, dict(zip(NAMES, self.bars.T, strict=True)), note=note)
        self.part.unlink(missing_ok=True)

    def _read_target(self) -> None:
        try:
            table = pyarrow.parquet.read_table(self.target)
        except (OSError, pyarrow.ArrowException):
            raise self._other("a file that is no Parquet table") from None
        note = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        self._check({key: note.get(key) for key in asdict(self.wanted)}, self.target)
        self._pieces.append(np.column_stack([table[name].to_numpy().astype(np.float64) for name in NAMES]))
        self.until_ms = float(note["until_ms"])

    def _read_part(self) -> None:
        """Whole lines count; what an interruption tore off is cut away."""
        whole = self.part.read_bytes().rpartition(b"\n")
        try:
            head, *rest = [json.loads(line) for line in whole[0].splitlines()]
            self._check({key: str(value) for key, value in head.items()}, self.part)
            for line in rest:
                self._pieces.append(np.array(line["bars"], dtype=np.float64).reshape(-1, len(NAMES)))
                self.until_ms = max(self.until_ms, float(line["until_ms"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            if whole[1]:
                raise self._other("something other than an interrupted download", self.part) from None
            self.part.unlink()  # torn before the first line was whole
            return
        with self.part.open("r+b") as file:
            file.truncate(len(whole[0]) + len(whole[1]))

    def _check(self, found: dict[str, Any], path: Path) -> None:
        wanted = {key: str(value) for key, value in asdict(self.wanted).items()}
        if found != wanted:
            different = [
                f"{key} {found.get(key)} in place of {wanted[key]}" for key in wanted if found.get(key) != wanted[key]
            ]
            raise self._other(f"another download ({', '.join(different)})", path)

    def _other(self, found: str, path: Path | None = None) -> UserError:
        todo = "choose another --output, or remove it"
        return UserError([Problem(str(path or self.target), f"holds {found}; {todo}")])
