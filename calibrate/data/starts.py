"""Windows of one length that start at regular moments of a history: its starts, for replays from many of them.

A window is whole or it is left out: where bars are missing nothing is made up. What is left out is counted.
"""

from typing import NamedTuple

import numpy as np

from calibrate.data.candles import Candles
from calibrate.data.times import duration, iso_time
from calibrate.errors import Problem, UserError

FEWEST = 2
MOST = 100_000


class Starts(NamedTuple):
    """Unix milliseconds at which windows of `length_ms` start, `every_ms` apart, and which of them are whole."""

    ts: np.ndarray
    whole: np.ndarray
    every_ms: int
    length_ms: int

    @property
    def side_by_side(self) -> float:
        """How many windows that share no time the starts come to."""
        return max(int(self.whole.sum()) * self.every_ms / self.length_ms, 1.0)


def starts_of(
    candles: Candles, *, every_ms: int, length_ms: int, first_ms: int | None, end_ms: int | None, place: str
) -> Starts:
    """The starts from `first_ms` on, or the history's first bar, whose windows end by `end_ms`, or with its last; what cannot be
    is said of `place`."""
    bar = round(candles.interval_s * 1000)
    begins, ends = int(candles.ts[0]), int(candles.ts[-1]) + bar
    first, end = begins if first_ms is None else first_ms, ends if end_ms is None else end_ms
    _check(candles, bar, every_ms, length_ms, first, end, place)
    ts = np.arange(first, end - length_ms + 1, every_ms, dtype=np.int64)
    at, bars = np.searchsorted(candles.ts, ts), length_ms // bar
    last = np.minimum(at + bars - 1, candles.bars - 1)
    # Times rise and are whole bars apart: as many bars as there should be are all of them.
    whole = (candles.ts[at] == ts) & (candles.ts[last] == ts + length_ms - bar) & (last - at == bars - 1)
    if whole.sum() < FEWEST:
        found = f"found {int(whole.sum())} whole windows of {duration(length_ms)} among {len(ts)} starts"
        raise UserError(
            [Problem(place, f"{found}; expected at least {FEWEST}; use a longer file or a shorter horizon")]
        )
    return Starts(ts, whole, every_ms, length_ms)


def _check(candles: Candles, bar: int, every: int, length: int, first: int, end: int, place: str) -> None:
    begins, ends = int(candles.ts[0]), int(candles.ts[-1]) + bar
    problems = []
    if first < begins or end > ends:
        found = f"found {iso_time(first)} to {iso_time(end)}; {candles.source} has bars from {iso_time(begins)}"
        problems.append(f"{found} to {iso_time(ends)}; choose times inside that")
    off = [("the first start", first - begins), ("the distance between starts", every), ("the horizon", length)]
    problems += [
        f"{what} is not a whole number of bars of {duration(bar)}; choose one that is"
        for what, rest in off
        if rest % bar
    ]
    if length < 2 * bar:
        problems.append(f"found a horizon of {duration(length)}; expected at least two bars of {duration(bar)}")
    if first + length + every > end:
        found = f"found {duration(max(end - first, 0))} of history for windows of {duration(length)} every {duration(every)}"
        problems.append(
            f"{found}; expected room for at least {FEWEST}; use a longer file, or a shorter horizon or distance"
        )
    elif (end - first - length) // every >= MOST:
        found = f"found {(end - first - length) // every + 1:,} starts; expected at most {MOST:,}"
        problems.append(f"{found}; choose a larger distance")
    if problems:
        raise UserError([Problem(place, problem) for problem in problems])
