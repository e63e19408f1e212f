"""Figures of paths that do not all count alike, and whether they can be relied on.

A probability is the mean of weight times indicator, which is unbiased. Other means are improved by what is known for certain,
that the mean weight is one: the weight is a control variate (Owen and Zhou 2000), which makes figures that all paths share
nearly as sharp as with equal weights, at a bias of the order of one in the number of paths. Few heavy paths can hide behind a
small standard error, so every figure comes with a diagnosis: how many equally heavy paths would tell as much (Kish 1965), how
much the heaviest path contributes, whether two halves of the paths agree, and whether the mean weight is one, as it must be if no
region was overlooked.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2, norm

# What makes a figure poor, and how often it happens by chance: five standard errors, once in 1.7 million.
FEWEST_PATHS, LARGEST_SHARE, MOST_ERRORS = 100.0, 0.1, 5.0


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
        if self.weight_gap > MOST_ERRORS:
            return (
                f"the mean weight is {self.weight_gap:.0f} standard errors from one: paths that matter were overlooked"
            )
        if self.effective_paths < FEWEST_PATHS:
            return f"it rests on as much as {self.effective_paths:.0f} equally heavy paths, fewer than {FEWEST_PATHS:g}"
        if self.largest_share > LARGEST_SHARE:
            return f"a single path makes up {self.largest_share:.0%} of it, more than {LARGEST_SHARE:.0%}"
        if self.half_gap > MOST_ERRORS:
            return f"its halves differ by {self.half_gap:.0f} standard errors"
        return None


def mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its standard error, with the weight as a control variate."""
    terms, spread = weights * np.asarray(values, np.float64), float(weights.var())
    slope = float(np.mean((terms - terms.mean()) * (weights - weights.mean()))) / spread if spread > 0 else 0.0
    return _mean_and_error(terms - slope * (weights - 1))


def _mean_and_error(terms: np.ndarray) -> tuple[float, float]:
    return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(terms)))


def probability_and_error(hit: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    return _mean_and_error(weights * hit)


def diagnose(values: np.ndarray, weights: np.ndarray) -> Diagnosis:
    """Of the weighted mean of values that are not negative."""
    terms = weights * np.asarray(values, np.float64)
    total, squares = terms.sum(), float(terms @ terms)
    halves = [_mean_and_error(terms[k::2]) for k in (0, 1)]
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
    paths, heavy = len(weights), weights[hit]
    mean, variance = float(heavy.sum()) / paths, float(heavy @ heavy) / paths**2
    most = float(np.max(heavy if heavy.size else weights)) / paths
    low = variance / (2 * mean) * float(chi2.ppf(tail, 2 * mean**2 / variance)) if mean > 0 else 0.0
    above, spread = mean + most, variance + most**2
    high = spread / (2 * above) * float(chi2.ppf(1 - tail, 2 * above**2 / spread))
    return low, min(high, 1.0)


def level_of(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value that a given share of the weighted paths exceeds or reaches."""
    order = np.argsort(-values, kind="stable")
    beyond = np.cumsum(weights[order]) / len(weights)
    return float(values[order][min(int(np.searchsorted(beyond, share)), len(order) - 1)])


def quantile(values: np.ndarray, weights: np.ndarray, level: float, tail: float) -> tuple[float, float, float]:
    """Weighted quantile with its confidence limits (Woodruff 1952): quantiles at levels as far apart as chance moves the share
    of paths beyond the quantile."""
    value = level_of(values, weights, 1 - level)
    _, error = probability_and_error(values > value, weights)
    reach = float(norm.ppf(1 - tail)) * error
    low, high = (level_of(values, weights, 1 - level + sign * reach) for sign in (1, -1))
    return value, low, high
