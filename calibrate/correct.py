"""A solution of the optimiser, moved until its limits hold on fresh paths.

A search fits itself to the few insolvent paths of its own sample, so its solution misses the limits on others. To search again
on other paths would fit it to those. Instead the policy moves along a line, from the solution towards the solution of a tighter
problem, as far as fresh paths ask for: a single number is fitted, and the direction is still the efficient one.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from calibrate.optimise import Problem, nearest
from calibrate.progress import Listener
from calibrate.sampling import Sampling
from calibrate.simulate import Sample, simulate

# How far before the solution and beyond the tighter one a line reaches, in units of the way between them.
_LOOSEST, _TIGHTEST = -1.0, 3.0
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


class FreshPaths:
    """A sample that the optimiser has not seen, cut down to the paths that can matter near a given policy."""

    def __init__(
        self,
        problem: Problem,
        near: np.ndarray,
        *,
        seed: int,
        paths: int,
        sampling: Sampling | None,
        listener: Listener,
    ):
        self._problem, self._seed, self._paths, self._sampling = problem, seed, paths, sampling
        done = listener.stage("rehearsal", paths)
        sample = simulate(
            problem.scenario,
            problem.at(near),
            seed=seed,
            paths=paths,
            fields=("distance",),
            sampling=sampling,
            on_progress=done,
        )
        self._numbers = nearest(problem.constraints, sample.values["distance"], sample.weights)

    def excess(self, point: np.ndarray, targets: np.ndarray) -> float:
        """By which factor the limits are exceeded, at most, where each is to be at its target."""
        constraints = self._problem.constraints
        sample = self._simulated(point)
        values = [c.share(c.contribution(sample.values), sample.weights, self._paths) for c in constraints]
        return max(value / target for value, target in zip(values, targets, strict=True))

    def _simulated(self, point: np.ndarray) -> Sample:
        fields = tuple(sorted({field for constraint in self._problem.constraints for field in constraint.fields}))
        at = self._problem.at(point)
        return simulate(
            self._problem.scenario,
            at,
            seed=self._seed,
            paths=self._numbers,
            fields=fields,
            sampling=self._sampling,
        )


def corrected(fresh: FreshPaths, line: Line, targets: np.ndarray) -> np.ndarray:
    """The loosest policy on the line whose limits are at their targets or below, on the fresh paths; its end if there is none."""
    kept = {_TIGHTEST}

    def log_excess(place: float) -> float:
        excess = fresh.excess(line.at(place), targets)
        if excess <= 1:
            kept.add(place)
        return float(np.log(max(excess, 1e-3)))

    if log_excess(_TIGHTEST) > 0:
        return line.at(_TIGHTEST)
    if log_excess(_LOOSEST) > 0:
        brentq(log_excess, _LOOSEST, _TIGHTEST, xtol=_RESOLUTION, rtol=_RESOLUTION)
    return line.at(min(kept))
