"""The trade-off curve: the least margin that keeps each insolvency tolerance.

The tolerance is swept from loose to strict, each search starting where the last one ended. How many paths a point is searched
on follows its tolerance. Points are then certified on fresh paths. Where paths are drawn plainly they are the same for all points
and for the incumbent, so that differences are far sharper than levels; where they are drawn from where a point's losses are, the
levels are sharp themselves.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from calibrate.certify import hold, measured
from calibrate.constraints import InsolvencyProbability
from calibrate.job_frontier import OWN
from calibrate.metrics import Estimate, metrics_of
from calibrate.optimise import FrozenSample, Problem, solve
from calibrate.policy import Parameters
from calibrate.progress import Listener, Silent, Under
from calibrate.rare_events import Chosen
from calibrate.recommend import headrooms
from calibrate.shocks import derived_seed
from calibrate.simulate import values_of


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


def frontiers(
    problem: Problem, sweep: Sweep, named: dict[str, Parameters], listener: Listener
) -> dict[str, list[FrontierPoint]]:
    """The frontier under each scenario by itself, the job's own first, with the named policies under each. Where paths are drawn
    plainly, all scenarios share their shocks."""
    own, *parts = problem.each
    found = {OWN: frontier(own, sweep, named, listener)}
    for (name, _), part in zip(problem.others, parts, strict=True):
        found[name] = frontier(part, sweep, named, Under(name, listener))
    return found


def frontier(problem: Problem, sweep: Sweep, named: dict[str, Parameters], listener: Listener) -> list[FrontierPoint]:
    """Certified points of the sweep in the first scenario, and the named policies on the same paths."""
    problem = problem.each[0]
    start = values_of(problem.incumbent, problem.names)
    found: list[tuple[str, float, Parameters, Chosen | None]] = []
    chosen: Chosen | None = None
    done = listener.stage("frontier: searching", len(sweep.tolerances))
    for tolerance in sorted(sweep.tolerances, reverse=True):
        solution, chosen = _solve_at(problem, float(tolerance), start, sweep, chosen)
        done(1)
        if solution is None:
            listener.note(f"tolerance {tolerance:.2g}: no policy within the bounds keeps it; left out")
            continue
        start = solution
        found.append(("frontier", float(tolerance), problem.at(solution), chosen))
    found += [(label, float("nan"), parameters, None) for label, parameters in named.items()]
    done = listener.stage("frontier: certifying", len(found))
    return [_certified(problem, *point, sweep, done) for point in found]


# A point is searched on so many weighted paths.
WEIGHTED_PATHS = 4096


def fewer_fresh_paths(paths: int) -> int:
    """How many weighted paths certify a point as well as so many plain ones, and better where that counts."""
    return max(paths // 6, min(paths, 10_000))


def search_paths(tolerance: float) -> int:
    """How many paths a point is searched on: enough for some two hundred insolvencies where that is affordable."""
    return int(np.clip(200 / tolerance, 4_096, 60_000))


def _solve_at(
    problem: Problem, tolerance: float, start: np.ndarray, sweep: Sweep, before: Chosen | None
) -> tuple[np.ndarray | None, Chosen]:
    """The point of a tolerance, if there is one, and how its paths were drawn; `before` is how those of the last point were."""
    constraints = (InsolvencyProbability(tolerance),)
    sample = FrozenSample(
        problem._replace(constraints=constraints),
        seed=derived_seed(sweep.seed, "frontier"),
        paths=search_paths(tolerance),
        weighted_paths=WEIGHTED_PATHS,
        chosen=before,
    )
    chosen = sample.learn(start)
    # Noise of the search and of the certificate both stand between the aim and the tolerance.
    together = int(1 / (1 / sample.paths + 1 / sweep.paths))
    fresh = fewer_fresh_paths(sweep.paths) if sample.weighted else together
    aim = headrooms(constraints, chosen, fresh, sample.paths, sweep.confidence)
    solution = solve(sample, start, aim, nearby=before is not None, rounds=2)
    return (solution.point if solution.feasible else None), sample.learn(solution.point)


def _certified(
    problem: Problem,
    label: str,
    tolerance: float,
    parameters: Parameters,
    learned: Chosen | None,
    sweep: Sweep,
    done: Callable[[int], None],
) -> FrontierPoint:
    asked = InsolvencyProbability(float(np.min(sweep.tolerances)) if np.isnan(tolerance) else tolerance)
    sample, _ = measured(
        problem.scenario,
        parameters,
        (asked,),
        sampling=problem.sampling,
        seed=derived_seed(sweep.seed, "frontier certificate"),
        paths=sweep.paths,
        stage="",
        listener=Silent(),
        tail_level=sweep.tail_level,
        weighted_paths=fewer_fresh_paths(sweep.paths),
        known=learned,
    )
    done(1)
    certified = not np.isnan(tolerance) and hold(asked, sample.values, sample.weights, sweep.confidence).satisfied
    metrics = metrics_of(sample, sweep.tail_level)
    return FrontierPoint(label, tolerance, parameters, metrics, certified, sample.paths)
