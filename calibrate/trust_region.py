"""Constrained minimisation in few evaluations: sequential quadratic programming within a trust region.

Each evaluation of a calibration is a simulation, so steps must count. At every point the problem is replaced by its linear
limits and a quadratic objective, whose curvature is learned from the gradients seen (damped BFGS, Powell 1978); the step stays
within a box that grows while the replacement predicts well and shrinks where it does not. Limits enter through an exact
penalty (Fletcher's Sl1QP, "Practical Methods of Optimization", 1987, section 12.4), so that a start outside them is no
trouble, and where they cannot be kept the search ends at the point that misses them least.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize, nnls

# What a missed limit costs at least, in units of the objective; twice its price where that is more. Much more than it is worth
# would forbid the long steps along a curved limit that leave it for a moment.
_LEAST_PENALTY = 0.3
# What a missed limit weighs beside the length of a step.
_MISSED = 1e3
# Lowest and highest value of each coordinate.
Box = tuple[np.ndarray | float, np.ndarray | float]


class Local(NamedTuple):
    """A problem at a point: objective and gradient, limits (kept where not positive) and their gradients by row."""

    objective: float
    gradient: np.ndarray
    limits: np.ndarray
    limit_gradients: np.ndarray


class Found(NamedTuple):
    """Where the search ended, what holds there, how many evaluations it took, and what easing each limit by one would take off
    the objective (the Lagrange multipliers). It is not `finished` if it ran out of evaluations."""

    point: np.ndarray
    local: Local
    evaluations: int
    prices: np.ndarray
    finished: bool


def minimise(
    evaluate: Callable[[np.ndarray], Local],
    start: np.ndarray,
    low: np.ndarray | float = 0.0,
    high: np.ndarray | float = 1.0,
    *,
    radius: float = 0.15,
    smallest_gain: float = 2e-5,
    smallest_radius: float = 1e-3,
    most_evaluations: int | None = None,
) -> Found:
    """Minimise over a box, starting at `start`. Coordinates should be scaled so that 0.1 is a considerable step. The
    search ends when a step promises less than `smallest_gain` of the merit, or steps get shorter than `smallest_radius`."""
    point = np.clip(np.asarray(start, float), low, high)
    # Curvature is learned along one direction a step.
    most_evaluations = most_evaluations or max(15, 5 * len(point))
    box = (low, high)
    here, evaluations = evaluate(point), 1
    curvature = np.zeros((len(point), len(point)))
    penalty = _LEAST_PENALTY
    finished = False
    while not finished and evaluations < most_evaluations:
        penalty = max(penalty, 2 * float(np.max(_multipliers(here), initial=0.0)))
        step = _step(here, curvature, point, box, radius, penalty)
        predicted = _merit(here, penalty) - _predicted(here, curvature, step, penalty)
        if predicted < smallest_gain * max(abs(_merit(here, penalty)), 1e-3):
            finished = bool(np.max(here.limits) <= 1e-4 or penalty > 1e6)
            # Nothing to gain although a limit is missed: perhaps only because the penalty is too small.
            penalty *= 10
            continue
        there = evaluate(point + step)
        evaluations += 1
        gained = _merit(here, penalty) - _merit(there, penalty)
        if gained < 0 and abs(np.max(here.limits)) < 0.1 and evaluations < most_evaluations:
            bent = _step(_bent(here, there, step), curvature, point, box, radius, penalty)
            corrected = evaluate(point + bent)
            evaluations += 1
            if _merit(corrected, penalty) < _merit(there, penalty):
                step, there = bent, corrected
                gained = _merit(here, penalty) - _merit(there, penalty)
        curvature = _updated(curvature, here, there, step)
        longest = float(np.max(np.abs(step)))
        if gained < 0.25 * predicted:
            radius = 0.4 * min(radius, longest)
        elif gained > 0.75 * predicted and longest > 0.9 * radius:
            radius = min(2 * radius, 0.5)
        if gained > 0:
            point, here = point + step, there
        finished = radius <= smallest_radius
    return Found(point, here, evaluations, prices_at(point, here), finished)


def _bent(here: Local, there: Local, step: np.ndarray) -> Local:
    """The problem with its linear limits moved to what they are found to be after a step. Along a curved limit any straight step
    leaves it, and would be refused however well it served the objective (Maratos 1978): a step bent back onto it is not."""
    return here._replace(limits=there.limits - here.limit_gradients @ step)


def _merit(local: Local, penalty: float) -> float:
    return local.objective + penalty * float(np.sum(np.maximum(local.limits, 0.0)))


def _predicted(local: Local, curvature: np.ndarray, step: np.ndarray, penalty: float) -> float:
    """The merit that the replacement problem promises after a step."""
    quadratic = local.objective + local.gradient @ step + step @ curvature @ step / 2
    return float(quadratic + penalty * np.sum(np.maximum(local.limits + local.limit_gradients @ step, 0.0)))


def _step(
    local: Local, curvature: np.ndarray, point: np.ndarray, box: Box, radius: float, penalty: float
) -> np.ndarray:
    """The best step within the box and the radius for the replacement problem; slacks carry what exceeds the limits."""
    size, limits = len(point), len(local.limits)
    # A little curvature everywhere keeps the replacement problem strictly convex.
    hessian = curvature + 1e-8 * np.eye(size)

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        d, slack = z[:size], z[size:]
        bent = hessian @ d
        slope = np.concatenate([local.gradient + bent, np.full(limits, penalty)])
        return float(local.gradient @ d + d @ bent / 2 + penalty * slack.sum()), slope

    low, high = np.maximum(-radius, box[0] - point), np.minimum(radius, box[1] - point)
    return _best_step(objective, local.limits, local.limit_gradients, low, high)


def _best_step(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    limits: np.ndarray,
    gradients: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """The step between `low` and `high` that is best by an objective of step and slacks, with its slope, where slacks carry what
    exceeds the linear limits."""
    size, number = len(low), len(limits)
    rows = np.hstack([-gradients, np.eye(number)])
    found = minimize(
        objective,
        np.concatenate([np.zeros(size), np.maximum(limits, 0.0)]),
        jac=True,
        method="SLSQP",
        bounds=[*zip(low, high, strict=True), *[(0.0, None)] * number],
        constraints={"type": "ineq", "fun": lambda z: rows @ z - limits, "jac": lambda z: rows},
        options={"maxiter": 100, "ftol": 1e-12},
    )
    return np.clip(found.x[:size], low, high)


def way_inwards(local: Local, point: np.ndarray, tighter_by: float, box: Box = (0.0, 1.0)) -> np.ndarray:
    """The shortest step within the box after which all limits are kept by `tighter_by`, in their linear replacement, or as far
    as they can be. Where a search ended every such way costs the same to first order (that is what multipliers mean), so the
    shortest, which stays closest to what is known, is as good as any."""
    size, wanted = len(point), local.limits + tighter_by

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        weighed = np.concatenate([np.ones(size), np.full(len(wanted), _MISSED)]) * z
        return float(z @ weighed) / 2, weighed

    return _best_step(objective, wanted, local.limit_gradients, box[0] - point, box[1] - point)


def prices_at(point: np.ndarray, local: Local) -> np.ndarray:
    """The limits' shadow prices where a search ended: what balances the gradients in the coordinates that no bound holds."""
    inside = (point > 1e-6) & (point < 1 - 1e-6)
    if not inside.any():
        return np.zeros(len(local.limits))
    return _multipliers(
        local._replace(gradient=local.gradient[inside], limit_gradients=local.limit_gradients[:, inside])
    )


def _multipliers(local: Local) -> np.ndarray:
    """Estimates of the limits' shadow prices: what best balances the gradients, among limits that nearly bind."""
    binding = local.limits > -0.1
    prices = np.zeros(len(local.limits))
    if binding.any():
        prices[binding], _ = nnls(local.limit_gradients[binding].T, -local.gradient)
    return prices


def _updated(curvature: np.ndarray, here: Local, there: Local, step: np.ndarray) -> np.ndarray:
    """Damped BFGS on the Lagrangian, kept positive semidefinite."""
    prices = _multipliers(there)
    change = (there.gradient - here.gradient) + prices @ (there.limit_gradients - here.limit_gradients)
    if not curvature.any():
        # The first update starts from the size of the curvature seen along the first step.
        curvature = max(float(step @ change) / float(step @ step), 1e-3) * np.eye(len(step))
    bent = curvature @ step
    along, seen = float(step @ bent), float(step @ change)
    if seen < 0.2 * along:
        share = 0.8 * along / (along - seen)
        change, seen = share * change + (1 - share) * bent, 0.2 * along
    return curvature - np.outer(bent, bent) / along + np.outer(change, change) / seen
