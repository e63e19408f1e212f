"""The limits that a policy must keep, and how each is estimated, differentiated and bounded from above.

There is one entry per kind of limit. A limit is always held against the upper confidence limit of its estimate.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import numpy as np
from scipy.stats import norm

from calibrate.gradient import bandwidth
from calibrate.metrics import Estimate, expected_shortfall, mean_of_loss, probability, upper_limit


class Smooth(NamedTuple):
    """A limit's estimate on frozen shocks, as a smooth function of the parameters: value and derivatives."""

    value: float
    slope: np.ndarray


class Constraint(eqx.Module):
    """An upper limit on one metric over the horizon. `field` is the outcome that it is computed from."""

    limit: float

    name: eqx.AbstractClassVar[str]
    field: eqx.AbstractClassVar[str]

    @property
    @abstractmethod
    def share_of_paths(self) -> float:
        """The share of paths, worst first, that the optimiser has to look at."""

    @abstractmethod
    def estimate(self, values: np.ndarray) -> Estimate:
        """From a whole sample."""

    @abstractmethod
    def upper(self, values: np.ndarray, confidence: float) -> float:
        """One-sided upper confidence limit from a whole sample."""

    @abstractmethod
    def share(self, values: np.ndarray, paths: int) -> float:
        """The estimate from the paths that matter in a sample of `paths`."""

    @abstractmethod
    def smooth(self, values: np.ndarray, slopes: np.ndarray, paths: int, width: float) -> Smooth:
        """From the paths that matter in a sample of `paths`; `width` is how far an indicator is smoothed."""


class InsolvencyProbability(Constraint):
    """Share of paths on which losses exceed the insurance fund."""

    limit: float
    name = "insolvency_probability"
    field = "distance"

    @property
    def share_of_paths(self) -> float:
        return min(8 * self.limit, 1.0)

    def estimate(self, values: np.ndarray) -> Estimate:
        return probability(int(np.count_nonzero(values > 0)), len(values))

    def upper(self, values: np.ndarray, confidence: float) -> float:
        return upper_limit(int(np.count_nonzero(values > 0)), len(values), confidence)

    def share(self, values: np.ndarray, paths: int) -> float:
        return np.count_nonzero(values > 0) / paths

    def smooth(self, values: np.ndarray, slopes: np.ndarray, paths: int, width: float) -> Smooth:
        u = np.asarray(values, np.float64) / width
        density = np.exp(-(u**2) / 2) / (np.sqrt(2 * np.pi) * width)
        return Smooth(float(norm.cdf(u).sum() / paths), density @ np.asarray(slopes, np.float64) / paths)


class AccountInsolvencyRate(Constraint):
    """Expected share of open interest closed with negative equity."""

    limit: float
    name = "account_insolvency_rate"
    field = "insolvent_share"

    @property
    def share_of_paths(self) -> float:
        return 1.0

    def estimate(self, values: np.ndarray) -> Estimate:
        return mean_of_loss(values)

    def upper(self, values: np.ndarray, confidence: float) -> float:
        return _normal_upper(values, self.estimate(values), confidence)

    def smooth(self, values: np.ndarray, slopes: np.ndarray, paths: int, width: float) -> Smooth:
        del width
        return Smooth(self.share(values, paths), np.asarray(slopes, np.float64).sum(axis=0) / paths)

    def share(self, values: np.ndarray, paths: int) -> float:
        return float(np.asarray(values, np.float64).sum() / paths)


class BadDebtShortfall(Constraint):
    """Expected shortfall of bad debt beyond `level`, as a share of open interest."""

    limit: float
    level: float
    name = "bad_debt_es"
    field = "bad_debt"

    @property
    def share_of_paths(self) -> float:
        return min(3 * (1 - self.level), 1.0)

    def estimate(self, values: np.ndarray) -> Estimate:
        return expected_shortfall(values, self.level)

    def upper(self, values: np.ndarray, confidence: float) -> float:
        # The tail alone speaks of its mean.
        tail = np.sort(values)[-self._tail(len(values)) :]
        return _normal_upper(tail, self.estimate(values), confidence)

    def smooth(self, values: np.ndarray, slopes: np.ndarray, paths: int, width: float) -> Smooth:
        del width
        worst = np.argsort(-values, kind="stable")[: self._tail(paths)]
        slope = np.asarray(slopes, np.float64)[worst].sum(axis=0) / self._tail(paths)
        return Smooth(self.share(values, paths), slope)

    def share(self, values: np.ndarray, paths: int) -> float:
        return float(np.sort(np.asarray(values, np.float64))[-self._tail(paths) :].sum() / self._tail(paths))

    def _tail(self, paths: int) -> int:
        return max(round((1 - self.level) * paths), 1)


# Losses are skewed: a normal limit for their mean claims too much until it rests on this many paths with a loss.
_LOSSES_NEEDED = 200


def _normal_upper(values: np.ndarray, estimate: Estimate, confidence: float) -> float:
    """An upper limit for a mean of losses as a share of open interest; all of it where too few paths have one."""
    if np.count_nonzero(values) < _LOSSES_NEEDED:
        return 1.0
    return estimate.value + float(norm.ppf(confidence)) * estimate.standard_error


def constraints_of(limits: dict[str, float], tail_level: float) -> list[Constraint]:
    """The constraints that a job asks for."""
    made: list[Constraint] = []
    for name, limit in limits.items():
        if name == InsolvencyProbability.name:
            made.append(InsolvencyProbability(limit))
        elif name == AccountInsolvencyRate.name:
            made.append(AccountInsolvencyRate(limit))
        else:
            made.append(BadDebtShortfall(limit, tail_level))
    return made


def smoothing_width(distance: np.ndarray, tolerance: float) -> float:
    """How far the optimiser smooths the indicator of insolvency: a fraction of the scale of the tail beyond the tolerance."""
    return 0.6 * bandwidth(distance, tolerance * len(distance))
