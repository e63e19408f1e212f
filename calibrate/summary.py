"""What has to be remembered of a sample whose paths are not kept.

Means and their errors need sums, probabilities a count. Quantiles, their intervals and expected shortfall need the upper tail
alone: of 1e8 paths and at a level of 0.99 the largest million values, a few more so that the interval's ends are among them. All
of it is exact: what comes out is what would come out of all paths, to the rounding of sums, for equally weighted paths. Sums are
of squared deviations, merged pairwise in double precision (Chan, Golub and LeVeque 1983).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from calibrate.pieces import Piece

# How many standard deviations of its rank the tail reaches below the quantile.
_REACH = 6.0


@dataclass(frozen=True)
class Summary:
    """One figure over all paths of a sample: how many, mean, sum of squared deviations from it, how many are above zero, and
    the largest values, falling."""

    paths: int
    mean: float
    squares: float
    positive: int
    largest: np.ndarray

    def __len__(self) -> int:
        return self.paths

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.squares / (self.paths - 1) / self.paths)) if self.paths > 1 else float("nan")

    def ranked(self, ranks: np.ndarray) -> np.ndarray:
        """Values by rank, 0 the smallest."""
        from_above = self.paths - 1 - np.asarray(ranks)
        if np.max(from_above) >= len(self.largest):
            raise ValueError("the quantile lies below the tail that was kept of the sample; keep a longer one")
        return self.largest[from_above]

    def excess(self, threshold: float, share: float) -> "Summary":
        """What exceeds a threshold within the tail, over a share."""
        over = np.maximum(self.largest - threshold, 0.0) / share
        mean = float(over.sum()) / self.paths
        squares = float(over @ over) - self.paths * mean**2
        return Summary(self.paths, mean, squares, int(np.count_nonzero(over)), over)


Outcomes = Mapping[str, "np.ndarray | Summary"]


def total(outcomes: Outcomes, fields: tuple[str, ...]) -> "np.ndarray | Summary":
    """The sum of some outcomes, by path, or what is remembered of it."""
    known = outcomes.get(_name(fields))
    return (
        known if isinstance(known, Summary) else np.sum([np.asarray(outcomes[f], np.float64) for f in fields], axis=0)
    )


def _name(fields: tuple[str, ...]) -> str:
    return " + ".join(fields)


def summarised(
    pieces: Iterable[Piece], paths: int, sums: Iterable[tuple[str, ...]], level: float, whole: tuple[str, ...]
) -> dict[str, "np.ndarray | Summary"]:
    """Summaries of all fields and of some sums of fields, whose upper tails hold the quantile at `level` with its interval; the
    fields in `whole` are kept by path."""
    reach = (1 - level) * paths + _REACH * np.sqrt(level * (1 - level) * paths)
    tail = min(paths, int(np.ceil(reach)) + 2)
    kept: dict[str, np.ndarray] = {}
    running: dict[tuple[str, ...], _Running] = {}
    at = 0
    for piece in pieces:
        fields = piece.values
        for name in whole:
            kept.setdefault(name, np.empty(paths, fields[name].dtype))[at : at + piece.paths] = fields[name]
        for parts in [*((name,) for name in fields if name not in whole), *sums]:
            if parts not in running:
                running[parts] = _Running(tail)
            running[parts].take(np.sum([fields[f].astype(np.float64) for f in parts], axis=0))
        at += piece.paths
    return {**kept, **{_name(parts): one.summary() for parts, one in running.items()}}


class _Running:
    """A summary in the making."""

    def __init__(self, tail: int):
        self._tail, self._paths, self._mean, self._squares, self._positive = tail, 0, 0.0, 0.0, 0
        # One block of memory: many small arrays, kept among large ones that are not, would hold the memory of those too.
        self._room, self._held, self._least = np.empty(2 * tail), 0, -np.inf

    def take(self, values: np.ndarray) -> None:
        count = self._paths + len(values)
        gap = float(values.mean()) - self._mean
        self._squares += float(values.var()) * len(values) + gap**2 * self._paths * len(values) / count
        self._mean += gap * len(values) / count
        self._paths = count
        self._positive += int(np.count_nonzero(values > 0))
        large = values[values > self._least]
        if self._held + len(large) > len(self._room):
            self._cut()
        if self._held + len(large) > len(self._room):
            self._room = np.append(self._room[: self._held], np.empty(self._tail + len(large)))
        self._room[self._held : self._held + len(large)] = large
        self._held += len(large)

    def _cut(self) -> None:
        """Keep no more than the tail."""
        surplus = self._held - self._tail
        if surplus <= 0:
            return
        self._room[: self._held].partition(surplus)
        self._room[: self._tail] = self._room[surplus : self._held].copy()
        self._held = self._tail
        # Of values as large as the least that is kept, there are enough.
        self._least = float(self._room[: self._held].min())

    def summary(self) -> Summary:
        self._cut()
        largest = np.sort(self._room[: self._held])[::-1]
        return Summary(self._paths, self._mean, self._squares, self._positive, largest)
