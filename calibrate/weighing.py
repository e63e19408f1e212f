"""Figures of paths that do not all count alike, and whether they can be relied on.

Figures are those of the weighted sample, with weights that sum to the number of paths: a mean is the sum of weight times value
over the sum of weights. Its standard error is that of the ratio, by the delta method; its bias is below one in
(paths times the share of paths drawn plainly). Few heavy paths can hide behind a small standard error, so every figure comes
with a diagnosis: how many equally heavy paths would tell as much (Kish 1965), how much the heaviest path contributes, whether
two halves of the paths agree, and whether the mean weight is one, as it must be if no region was overlooked.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2, norm

# What makes a figure poor, and how often it happens by chance: five standard errors, once in 1.7 million.
_FEWEST_PATHS, _LARGEST_SHARE, _ERRORS = 100.0, 0.1, 5.0


class Diagnosis(NamedTuple):
    """How much a weighted mean of losses rests on. `half_gap` is the difference of two halves in its standard errors,
    `weight_gap` how far the mean weight is from one in its own."""

    effective_paths: float
    largest_share: float
    half_gap: float
    weight_gap: float

    @property
    def poor(self) -> str | None:
        """Why the figure should not be relied on, if it should not."""
        if self.weight_gap > _ERRORS:
            return (
                f"the mean weight is {self.weight_gap:.0f} standard errors from one: paths that matter were overlooked"
            )
        if self.effective_paths < _FEWEST_PATHS:
            return (
                f"it rests on as much as {self.effective_paths:.0f} equally heavy paths, fewer than {_FEWEST_PATHS:g}"
            )
        if self.largest_share > _LARGEST_SHARE:
            return f"a single path makes up {self.largest_share:.0%} of it, more than {_LARGEST_SHARE:.0%}"
        if self.half_gap > _ERRORS:
            return f"its halves differ by {self.half_gap:.0f} standard errors"
        return None


def mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its standard error."""
    values, total = np.asarray(values, np.float64), weights.sum()
    mean = float(weights @ values / total)
    return mean, float(np.sqrt(np.sum((weights * (values - mean)) ** 2)) / total)


def diagnose(values: np.ndarray, weights: np.ndarray) -> Diagnosis:
    """Of the weighted mean of values that are not negative."""
    terms = weights * np.asarray(values, np.float64)
    total, squares = terms.sum(), float(terms @ terms)
    halves = [mean_and_error(values[k::2], weights[k::2]) for k in (0, 1)]
    gap, error = halves[0][0] - halves[1][0], float(np.hypot(halves[0][1], halves[1][1]))
    spread = weights.std(ddof=1) / np.sqrt(len(weights))
    return Diagnosis(
        effective_paths=float(total**2 / squares) if squares > 0 else 0.0,
        largest_share=float(terms.max() / total) if total > 0 else 1.0,
        half_gap=abs(gap) / error if error > 0 else 0.0,
        weight_gap=float(abs(weights.mean() - 1) / spread) if spread > 0 else 0.0,
    )


def probability_limits(hit: np.ndarray, weights: np.ndarray, tail: float) -> tuple[float, float]:
    """Lower and upper confidence limit of a probability, each missed with probability `tail`.

    How many paths of each weight are hit is Poisson, so their weighted sum has the limits of Fay and Feuer (1997): those of a
    gamma law with the sum's mean and variance, after one more of the heaviest hits. Where there is no hit, that is the heaviest
    path of all. With equal weights they are the exact limits of a Poisson count.
    """
    paths = weights.sum()
    heavy = weights[hit]
    mean, variance = float(heavy.sum()) / paths, float(heavy @ heavy) / paths**2
    most = float(np.max(heavy if heavy.size else weights)) / paths
    low = variance / (2 * mean) * float(chi2.ppf(tail, 2 * mean**2 / variance)) if mean > 0 else 0.0
    above, spread = mean + most, variance + most**2
    high = spread / (2 * above) * float(chi2.ppf(1 - tail, 2 * above**2 / spread))
    return low, min(high, 1.0)


def quantile(values: np.ndarray, weights: np.ndarray, level: float, tail: float) -> tuple[float, float, float]:
    """Weighted quantile with its confidence limits (Woodruff 1952): quantiles at levels as far apart as chance moves the share
    of paths below the quantile."""
    order = np.argsort(values, kind="stable")
    ordered, below = np.asarray(values, np.float64)[order], np.cumsum(weights[order]) / weights.sum()

    def at(share: float) -> float:
        return float(ordered[min(int(np.searchsorted(below, share)), len(ordered) - 1)])

    _, error = mean_and_error(values <= at(level), weights)
    reach = float(norm.ppf(1 - tail)) * error
    return at(level), at(level - reach), at(level + reach)


def level_of(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value that a given share of the weighted paths exceeds."""
    order = np.argsort(-values, kind="stable")
    beyond = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(beyond, share)), len(order) - 1)])
