"""From a problem to a policy that can be signed: optimise, correct on fresh paths, certify on others.

The optimiser sees a small sample; its solution is then moved until the limits hold on a large one (`correct.py`). Only then is
the certificate attempted, on paths that are new once more.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, norm

from calibrate.certify import Certificate, certify, confidence_of_attempt, paths_of_attempt
from calibrate.constraints import Constraint, InsolvencyProbability
from calibrate.correct import FreshSamples, Line, corrected, eased
from calibrate.metrics import most_events
from calibrate.optimise import FrozenSamples, Problem, Solution, solve
from calibrate.progress import Listener
from calibrate.rare_events import Chosen
from calibrate.shocks import derived_seed
from calibrate.simulate import values_of

ATTEMPTS = 3
# An upper limit may be far off for want of losses, which a tighter policy would not mend.
_TIGHTEN_AT_MOST = 2.0
# The direction in which to correct is that of limits this much tighter, or less where no policy keeps those.
_TIGHTER, _NEARLY = (0.6, 0.8, 0.9), 1.1
# The share of a rehearsal's paths that shows about where the limits hold.
_ROUGHLY = 0.25
# How often a first certificate should be granted to a policy that is exactly at its aim.
_CHANCE = 0.9


class Effort(NamedTuple):
    """How much is simulated: the optimiser's paths, those of a first certificate and at most of a further one, the seed and the
    confidence asked for."""

    optimiser_paths: int
    paths: int
    seed: int
    confidence: float
    most_paths: int = 0


class Recommendation(NamedTuple):
    """The outcome of a calibration. `status` is "certified", "not certified" or "infeasible"; `message` says why. `easing` is how
    the level of the margin would change per unit of the logarithm of all limits, or where it is not free what else is."""

    status: str
    message: str
    solution: Solution
    certificate: Certificate | None
    easing: np.ndarray | None = None


def recommend(problem: Problem, effort: Effort, listener: Listener) -> Recommendation:
    """The most efficient policy whose limits hold on fresh paths."""
    start = values_of(problem.incumbent, problem.names)
    sample = FrozenSamples(
        problem, seed=derived_seed(effort.seed, "optimiser"), paths=effort.optimiser_paths, listener=listener
    )
    room = np.array([constraint.room for constraint in problem.limits])
    least = np.array([constraint.least for constraint in problem.limits])
    rooms = [
        headrooms(part.constraints, chosen, effort.paths, effort.paths, effort.confidence)
        for part, chosen in zip(problem.each, sample.learn(start), strict=True)
    ]
    aim = problem.joined(rooms)
    solution = solve(sample, start, aim)
    if not solution.feasible:
        return Recommendation("infeasible", why_infeasible(sample.problem, solution), solution, None)

    tighter = next_tighter(sample, solution, aim)
    line = Line(solution.point, tighter.point, problem.low, problem.high)
    samplings = tuple(chosen.sampling for chosen in sample.learn(solution.point))
    rehearsal = functools.partial(
        FreshSamples,
        problem,
        seed=derived_seed(effort.seed, "rehearsal"),
        samplings=samplings,
        listener=listener,
    )
    # Which paths matter is seen best from where the limits hold, and so is how sharp weighted evidence will be; some of the paths
    # show about where that is.
    near = corrected(rehearsal(line.at(0), paths=math.ceil(_ROUGHLY * effort.paths)), line, aim * room)
    fresh = rehearsal(near, paths=effort.paths)
    errors = fresh.relative_errors(near)
    aim = problem.joined(
        [
            room if sampling is None else room_for(fitted, fitted, effort.confidence)
            for room, sampling, fitted in zip(rooms, samplings, errors, strict=True)
        ]
    )
    certificate = None
    for attempt in range(1, ATTEMPTS + 1):
        targets = aim * room
        point = corrected(fresh, line, targets, line.place_of(near))
        solution = rounded(problem, solution._replace(point=point))
        certificate = certify(
            problem,
            solution.parameters(problem),
            seed=effort.seed,
            paths=paths_of_attempt(effort.paths, effort.most_paths, attempt),
            attempt=attempt,
            confidence=effort.confidence,
            listener=listener,
        )
        if certificate.granted:
            easing = eased(fresh, margin_alone(problem, solution.point) or line, solution.point, targets)
            return Recommendation("certified", "every limit is kept on fresh paths", solution, certificate, easing)
        if (
            noise_alone(certificate)
            and paths_of_attempt(effort.paths, effort.most_paths, attempt + 1) > certificate.paths
        ):
            listener.note("certificate refused, though every estimate is within its limit; trying more paths")
            continue
        missed_by = (np.array([holding.upper for holding in certificate.holdings]) - least) / room
        aim = aim / np.clip(1.05 * missed_by, 1.0, _TIGHTEN_AT_MOST)
        listener.note("certificate refused; trying a tighter policy")
    assert certificate is not None
    return Recommendation("not certified", _why_refused(certificate), solution, certificate)


def margin_alone(problem: Problem, point: np.ndarray) -> Line | None:
    """Policies that differ in the level of the margin alone, where it is free. Which of several parameters gives way most
    efficiently is often a matter of next to nothing, and so of chance; how far the margin would have to by itself is not."""
    levels = np.isin(problem.names, ("base_margin", "volatility_multiplier"))
    anywhere = np.full(len(point), np.inf)
    return Line(point, np.where(levels, 1.2 * point, point), -anywhere, anywhere) if levels.any() else None


def noise_alone(certificate: Certificate) -> bool:
    """Whether a certificate was refused although every estimate keeps its limit and can be relied on."""
    return all(h.estimate.value <= h.limit and not h.poor for h in certificate.holdings)


def next_tighter(sample: FrozenSamples, solution: Solution, aim: np.ndarray) -> Solution:
    """The solution of a tighter problem. Where limits work against each other there may be none that is much tighter, and where
    a search for one ends says nothing of how to tighten well."""
    for factor in _TIGHTER:
        tighter = solve(sample, solution.point, factor * aim, nearby=True, known=factor == _TIGHTER[0])
        if max(tighter.excess.values()) < _NEARLY:
            break
    return tighter


def rounded(problem: Problem, solution: Solution) -> Solution:
    """Four digits are as many as a proposal needs; what is certified is the rounded policy itself."""
    units = [parameter.users_unit for parameter in problem.free]
    rounded = np.array([float(f"{v / unit:.4g}") * unit for v, unit in zip(solution.point, units, strict=True)])
    return solution._replace(point=np.clip(rounded, problem.low, problem.high))


def headrooms(
    constraints: tuple[Constraint, ...], chosen: Chosen, paths: int, fitted_on: int, confidence: float
) -> np.ndarray:
    """The share of each limit to aim at, so that a first certificate of `paths` paths is granted nine times in ten to a policy
    that was fitted on others, `fitted_on` where they are weighted."""
    if chosen.sampling is None:
        return np.array([headroom(constraint, paths, confidence) for constraint in constraints])
    own, fitted = (np.sqrt(chosen.relative_variance / count) for count in (paths, fitted_on))
    return room_for(own, fitted, confidence)


def room_for(own: np.ndarray, fitted: np.ndarray, confidence: float) -> np.ndarray:
    """The share of limits to aim at, given the relative errors of a certificate's estimates, and of those that the policy is
    fitted to."""
    within = norm.ppf(confidence_of_attempt(confidence, 1)) * own + norm.ppf(_CHANCE) * np.hypot(own, fitted)
    return np.maximum(1 / (1 + within), 1 / _TIGHTEN_AT_MOST)


def headroom(constraint: Constraint, paths: int, confidence: float) -> float:
    """The share of a limit to aim at, so that a first certificate of `paths` paths is granted nine times in ten. A
    probability's noise is known beforehand; for other limits a tenth is left."""
    if not isinstance(constraint, InsolvencyProbability):
        return 0.9
    allowed = most_events(constraint.limit, paths, confidence_of_attempt(confidence, 1))
    # At this probability there are no more than the allowed events nine times in ten (Clopper and Pearson 1934). Where a
    # certificate would be refused even without any, half an event is aimed at.
    aim = beta.ppf(1 - _CHANCE, allowed + 1, paths - allowed) if allowed >= 0 else 0.5 / paths
    return float(min(aim / constraint.limit, 1.0))


def why_infeasible(problem: Problem, solution: Solution) -> str:
    """Which limit binds at the safest point within the bounds, and by how much it is missed."""
    name, factor = max(solution.excess.items(), key=lambda item: item[1])
    limit = next(constraint.limit for constraint in problem.constraints if constraint.name == name)
    return (
        f"no policy within the bounds keeps the limits: at the safest one {name} is still {factor:.3g} times what the limit "
        f"of {limit:g} leaves room for; widen the bounds or the largest change, or relax the limit"
    )


def _why_refused(certificate: Certificate) -> str:
    worst = max(certificate.holdings, key=lambda holding: holding.upper / holding.limit)
    poor = next((holding for holding in certificate.holdings if holding.poor), None)
    if poor is not None:
        return (
            f"after {certificate.attempt} attempts {poor.name} cannot be relied on: {poor.poor}; "
            "more simulation.paths would help"
        )
    return (
        f"after {certificate.attempt} attempts {worst.name} is {worst.estimate.value:.3g} with an upper limit of "
        f"{worst.upper:.3g}, above {worst.limit:g}; more simulation.paths would narrow the interval"
    )
