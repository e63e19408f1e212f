"""Figures over many starts of one history, with errors that know that windows overlap.

Windows that share bars come out alike, and so do those of one calm or wild season; n of them tell less than n independent ones.
Errors are made from blocks of neighbouring starts: the variance of a mean is that of the sums over all blocks of one length
(overlapping batch means, Meketon and Schmeiser 1984; the moving blocks of Kuensch 1989 have the same variance). A block is as
long as three windows. Covariances that fall linearly over a window's length, as those of overlapping windows of independent bars
do, are then seen but for a ninth, so that errors come out 6 % too small; dependence beyond three windows is not seen at all.
Intervals use Student's t with the degrees of freedom of such blocks, 1.5 (n / block - 1). Quantiles have the interval in which
the share of starts below has its own (Woodruff 1952). Starts whose windows have gaps keep their place in the blocks and count
for nothing.
"""

import math
from typing import Any

import numpy as np
from scipy.stats import t

from calibrate.data.starts import Starts
from calibrate.metrics import CONFIDENCE, Estimate, probability

# Windows to a block.
WINDOWS_PER_BLOCK = 3
# Blocks side by side without which there is no error to be told.
FEWEST_BLOCKS = 4
WORST = "the worst start that was seen: worse ones may come"
NONE = "no start had any: read it as rarer than this history can show"
SHORT = "the history is too short for an error: fewer than four blocks of three windows"


class OverStarts:
    """Means, shares and quantiles over whole windows, of values that stand in the order of their starts."""

    def __init__(self, starts: Starts):
        self.whole, self.windows = starts.whole, starts.side_by_side
        self.block = math.ceil(WINDOWS_PER_BLOCK * max(starts.length_ms / starts.every_ms, 1.0))

    @property
    def blocks(self) -> float:
        """How many blocks the history holds side by side."""
        return len(self.whole) / self.block

    def mean(self, values: np.ndarray) -> Estimate:
        value, error = float(values.mean()), self._error(values)
        half = self._reach * error
        return Estimate(value, error, (value - half, value + half), self._warning() if values.any() else NONE)

    def share(self, values: np.ndarray) -> Estimate:
        """The mean of values between 0 and 1. If all are 0, as little is known as from one window after the other."""
        if not values.any():
            return probability(0, int(self.windows))
        found = self.mean(values)
        return found._replace(interval=(max(found.interval[0], 0.0), min(found.interval[1], 1.0)))

    def quantile(self, values: np.ndarray, level: float) -> Estimate:
        ranked = np.sort(values)
        value = _at(ranked, level)
        half = self._reach * self._error(values <= value)
        if math.isnan(half) or value == ranked[-1]:
            warning = self._warning() or (WORST if values.any() else NONE)
            return Estimate(value, math.nan, (math.nan, math.nan), warning)
        low, high = _at(ranked, level - half), _at(ranked, level + half)
        beyond = level + half >= 1 and value < ranked[-1]
        told = "the interval ends with the worst start: worse ones may come" if beyond else None
        return Estimate(value, (high - low) / (2 * self._reach), (low, high), told)

    @property
    def _reach(self) -> float:
        """How many standard errors an interval goes to either side."""
        return float(t.ppf((1 + CONFIDENCE) / 2, 1.5 * (self.blocks - 1))) if self.blocks > 1 else math.nan

    def _error(self, values: np.ndarray) -> float:
        if self.blocks < FEWEST_BLOCKS:
            return math.nan
        slots, size = len(self.whole), self.block
        rest = np.zeros(slots)
        rest[self.whole] = values - np.mean(values)
        sums = np.convolve(rest, np.ones(size), mode="valid")
        # Of the sum over all starts; the last factor makes up for the mean being that of the same starts.
        variance = slots / size * np.mean(sums**2) * slots / (slots - size)
        return float(np.sqrt(variance)) / len(values)

    def _warning(self) -> str | None:
        return SHORT if self.blocks < FEWEST_BLOCKS else None


def as_json(estimate: Estimate) -> dict[str, Any]:
    """The figure; an error that there is not is null."""
    shown = estimate.as_json()
    if math.isfinite(estimate.standard_error):
        return shown
    return shown | {"standard_error": None, "interval": [None, None]}


def _at(ranked: np.ndarray, level: float) -> float:
    """The smallest value with at least the share `level` at or below it."""
    place = math.ceil(round(level * len(ranked), 9)) - 1
    return float(ranked[min(max(place, 0), len(ranked) - 1)])
