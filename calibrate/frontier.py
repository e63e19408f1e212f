"""The trade-off curve: the least margin that keeps each insolvency tolerance.

The tolerance is swept from loose to strict, each search starting where the last one ended. How many paths a point is searched
on follows its tolerance. Points are then certified on fresh paths, the same for all of them and for the incumbent, so that
their differences are far sharper than their levels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from calibrate.constraints import InsolvencyProbability
from calibrate.metrics import Estimate, metrics_of, upper_limit
from calibrate.optimise import FrozenSample, Problem, solve
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.recommend import headroom
from calibrate.shocks import derived_seed
from calibrate.simulate import simulate, values_of


class Sweep(NamedTuple):
    """Which tolerances, and how many fresh paths certify a point."""

    tolerances: np.ndarray
    paths: int
    seed: int
    confidence: float
    tail_level: float


class FrontierPoint(NamedTuple):
    """A policy, its metrics on the fresh paths, and whether the tolerance holds at its upper confidence limit. Points that
    are not of the sweep (the incumbent, the recommendation) have no tolerance."""

    label: str
    tolerance: float
    parameters: Parameters
    metrics: dict[str, Estimate]
    certified: bool
    paths: int


def frontier(problem: Problem, sweep: Sweep, named: dict[str, Parameters], listener: Listener) -> list[FrontierPoint]:
    """Certified points of the sweep, and the named policies on the same paths."""
    start = values_of(problem.incumbent, problem.names)
    found: list[tuple[str, float, Parameters]] = []
    done = listener.stage("frontier: searching", len(sweep.tolerances))
    for tolerance in sorted(sweep.tolerances, reverse=True):
        solution = _solve_at(problem, float(tolerance), start, sweep)
        done(1)
        if solution is None:
            listener.note(f"tolerance {tolerance:.2g}: no policy within the bounds keeps it; left out")
            continue
        start = solution
        found.append(("frontier", float(tolerance), problem.at(solution)))
    found += [(label, float("nan"), parameters) for label, parameters in named.items()]
    done = listener.stage("frontier: certifying", sweep.paths * len(found))
    return [_certified(problem, *point, sweep, done) for point in found]


def search_paths(tolerance: float) -> int:
    """How many paths a point is searched on: enough for some two hundred insolvencies where that is affordable."""
    return int(np.clip(200 / tolerance, 4_096, 60_000))


def _solve_at(problem: Problem, tolerance: float, start: np.ndarray, sweep: Sweep) -> np.ndarray | None:
    constraint = InsolvencyProbability(tolerance)
    paths = search_paths(tolerance)
    sample = FrozenSample(
        problem._replace(constraints=(constraint,)), seed=derived_seed(sweep.seed, "frontier"), paths=paths
    )
    # Noise of the search and of the certificate both stand between the aim and the tolerance.
    together = 1 / (1 / paths + 1 / sweep.paths)
    solution = solve(sample, start, np.array([headroom(constraint, int(together), sweep.confidence)]), rounds=2)
    return solution.point if solution.feasible else None


def _certified(
    problem: Problem, label: str, tolerance: float, parameters: Parameters, sweep: Sweep, done: Callable[[int], None]
) -> FrontierPoint:  # fmt: skip
    sample = simulate(
        problem.scenario,
        parameters,
        seed=derived_seed(sweep.seed, "frontier certificate"),
        paths=sweep.paths,
        on_progress=done,
    )
    events = int(np.count_nonzero(sample.values["distance"] > 0))
    upper = upper_limit(events, sweep.paths, sweep.confidence)
    metrics = metrics_of(sample, sweep.tail_level)
    return FrontierPoint(label, tolerance, parameters, metrics, bool(upper <= tolerance), sweep.paths)
