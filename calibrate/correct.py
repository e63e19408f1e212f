"""A solution of the optimiser, moved until its limits hold on fresh paths.

A search fits itself to the few insolvent paths of its own sample, so its solution misses the limits on others. To search again
on other paths would fit it to those. Instead the policy moves along a line, from the solution towards one that keeps tighter
limits, as far as fresh paths ask for: a single number is fitted, and where the search ended every such line is efficient.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from calibrate.constraints import Constraint, InsolvencyProbability
from calibrate.metrics import mean
from calibrate.optimise import FrozenSample, FrozenSamples, simulated_parts
from calibrate.simulate import Sample
from calibrate.weighing import diagnose

# How far before the solution and beyond the tighter one a line reaches, in units of the way between them.
_LOOSEST, _TIGHTEST = -2.0, 3.0
# Paths for limits on what all paths have.
_COMMON_PATHS = 16_384
# How far around a place the first bracket reaches.
_REACH = 0.25
# Places on the line closer than this are not told apart.
_RESOLUTION = 0.02


class Line(NamedTuple):
    """Policies from a solution towards a tighter one, within the bounds."""

    solution: np.ndarray
    tighter: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, place: float) -> np.ndarray:
        return np.clip(self.solution + place * (self.tighter - self.solution), self.low, self.high)

    def place_of(self, point: np.ndarray) -> float:
        """Where on the line a point lies, or the nearest to it."""
        way = self.tighter - self.solution
        return float((point - self.solution) @ way / max(float(way @ way), 1e-300))


class FreshPaths:
    """The paths that a screened sample keeps, with limits as they are, not smoothed as for a search."""

    def __init__(self, sample: FrozenSample):
        self._of = sample
        asked = any(constraint.common for constraint in sample.problem.constraints)
        self._common = np.arange(min(sample.paths, _COMMON_PATHS) if asked else 1)

    def excess(self, point: np.ndarray, targets: np.ndarray) -> float:
        """By which factor the limits are exceeded, at most, where each is to be at its target."""
        return float(np.max(self.used(point, targets)))

    def used(self, point: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Which part of its target each limit takes up."""
        return (
            np.array([c.share(values, sample.weights, paths) for c, values, sample, paths in self._limits(point)])
            / targets
        )

    def spreads(self, point: np.ndarray, confidence: float) -> np.ndarray:
        """How far above the limits' estimates their upper confidence limits lie, and by what two such estimates differ (a standard
        error), both relative to the estimates. So weighted paths show; nothing is known of plain ones, of which few were kept."""
        if self._of.sampling is None:
            return np.zeros((2, len(self._of.problem.constraints)))
        found = []
        for constraint, values, sample, paths in self._limits(point):
            if sample.weights is None:
                value, error, *_ = mean(values)
                above = value - constraint.least
                relative = error / above if above > 0 else 0.0
                reach = norm.ppf(confidence) * relative
            else:
                # Paths that were left out contribute nothing; of those kept, the tail is found by its share of all.
                weights = sample.weights * len(values) / paths
                terms = constraint.terms(values, weights, at_limit=False)
                relative = 1 / np.sqrt(max(diagnose(terms, weights).effective_paths, 1.0))
                reach = norm.ppf(confidence) * relative
                if isinstance(constraint, InsolvencyProbability) and np.any(values > 0):
                    reach = (
                        constraint.upper(values, weights, confidence) / constraint.share(values, weights, len(values))
                        - 1
                    )
            found.append((reach, np.sqrt(2) * relative))
        return np.transpose(found)

    def _limits(self, point: np.ndarray) -> list[tuple[Constraint, np.ndarray, Sample, int]]:
        """For each limit its contributions, the sample they are of, and how many paths that stands for."""
        of = self._of
        parts = simulated_parts(of.problem, point, of.near, self._common, seed=of.seed, sampling=of.sampling)
        found = ((constraint, *parts.of(constraint, of.paths)) for constraint in of.problem.constraints)
        return [(c, c.contribution(sample.values), sample, paths) for c, sample, paths in found]


class FreshSamples:
    """Fresh paths of each scenario of a problem."""

    def __init__(self, samples: FrozenSamples):
        self._problem = samples.whole
        self._parts = [FreshPaths(sample) for sample in samples.parts]

    def excess(self, point: np.ndarray, targets: np.ndarray) -> float:
        split = self._problem.apart(targets)
        used = [part.used(point, mine) for part, mine in zip(self._parts, split, strict=True)]
        if self._problem.shares:
            used = [np.asarray(self._problem.shares) @ np.array(used)]
        return float(np.max(used))

    def spreads(self, point: np.ndarray, confidence: float) -> list[np.ndarray]:
        return [part.spreads(point, confidence) for part in self._parts]


def corrected(fresh: FreshPaths | FreshSamples, line: Line, targets: np.ndarray, start: float = 0.0) -> np.ndarray:
    """The loosest policy on the line whose limits are at their targets or below, on the fresh paths; if there is none, what misses
    them least. `start` is a place on the line that is thought to be near."""
    seen: dict[float, float] = {}

    def log_excess(place: float) -> float:
        if place not in seen:
            seen[place] = float(np.log(max(fresh.excess(line.at(place), targets), 1e-3)))
        return seen[place]

    low, high, reach = start - _REACH, start + _REACH, _REACH
    while log_excess(high) > 0 and high < _TIGHTEST:
        low, high, reach = high, min(high + 2 * reach, _TIGHTEST), 2 * reach
    while log_excess(low) <= 0 and low > _LOOSEST:
        low, high, reach = max(low - 2 * reach, _LOOSEST), low, 2 * reach
    if log_excess(high) > 0:
        return line.at(min((start, *seen), key=log_excess))
    if log_excess(low) > 0:
        brentq(log_excess, low, high, xtol=_RESOLUTION, rtol=_RESOLUTION)
    return line.at(min(place for place, excess in seen.items() if excess <= 0))


def eased(fresh: FreshPaths | FreshSamples, line: Line, point: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How the policy moves along the line when all limits grow: its change per unit of their logarithm (implicit
    differentiation of the excess along the line); nothing where the limits do not tell policies on the line apart."""
    place, reach = line.place_of(point), 0.25
    ends = [np.log(max(fresh.excess(line.at(place + side * reach), targets), 1e-6)) for side in (1, -1)]
    fall = float(ends[1] - ends[0]) / (2 * reach)
    return (line.solution - line.tighter) / fall if fall > 0 else np.zeros_like(point)
