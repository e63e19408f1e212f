"""What a limit costs, and what an assumption forces: the recommendation's own sensitivity.

With all else as recommended, the limits decide how high the margin must be. So if all limits grew, or if an assumption made
insolvency likelier, the margin would move until they bind again: implicit differentiation of a single equation. What easing a
limit is worth to the objective is its shadow price, from the search's multipliers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calibrate.optimise import Problem
from calibrate.recommend import Recommendation
from calibrate.sensitivity import Sensitivity
from calibrate.shocks import derived_seed
from calibrate.simulate import simulate

# Margin hardly varies between paths, and differences are taken on the same ones.
_PATHS = 4096
# A change of the limits' logarithm small enough to be linear, large enough for single precision.
_STEP = 0.1


class Easing(NamedTuple):
    """Per unit of the logarithm of all limits: change of the free parameters, in their fields' units, and of the margin per unit
    of open interest, whose level is `margin`."""

    parameters: np.ndarray
    margin_change: float
    margin: float

    def if_doubled(self) -> dict[str, float]:
        """Margin and leverage if all limits were twice as high, to first order in the logarithm."""
        after = self.margin * np.exp(np.log(2) * self.margin_change / self.margin)
        return {
            "margin_per_oi": float(after),
            "max_leverage": float(1 / after),
            "more_leverage": float(1 / after - 1 / self.margin),
        }


def easing_of(problem: Problem, recommendation: Recommendation, seed: int) -> Easing | None:
    """How the recommendation gives way, where there is one that is certified."""
    if recommendation.easing is None:
        return None
    point, change = recommendation.solution.point, recommendation.easing
    within = [np.clip(where, problem.low, problem.high) for where in (point, point + _STEP * change)]
    margins = margins_at(problem, within, seed)
    return Easing(change, float(margins[1] - margins[0]) / _STEP, float(margins[0]))


def margins_at(problem: Problem, points: Sequence[np.ndarray], seed: int) -> list[np.float64]:
    """The margin per unit of open interest at each point, on the same paths."""
    return [
        simulate(
            problem.scenario,
            problem.at(point),
            seed=derived_seed(seed, "easing"),
            paths=_PATHS,
            fields=("initial_margin",),
        )
        .values["initial_margin"]
        .mean(dtype=np.float64)
        for point in points
    ]


class Forced(NamedTuple):
    """What a tenth more of an assumption would force: per cent change of the margin, with the standard error that comes of the
    elasticity's."""

    margin_percent: float
    standard_error: float


def forced(driver: Sensitivity, easing: Easing) -> Forced:
    """A tenth more of the assumption changes the logarithm of the probability by its elasticity times ln 1.1; the policy makes up
    for it as if the limits had shrunk by as much."""
    unit = -100 * np.log(1.1) * easing.margin_change / easing.margin
    return Forced(float(unit * driver.elasticity), float(abs(unit) * driver.standard_error))
