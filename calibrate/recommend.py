"""From a problem to a policy that can be signed: optimise, correct on fresh paths, certify on others.

The optimiser sees a small sample, and then a larger one nearby; its solution is moved until the limits hold on one that is larger
still (`correct.py`). Only then is the certificate attempted, on paths that are new once more.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta, norm

from calibrate.certify import Certificate, certify, confidence_of_attempt, paths_of_attempt
from calibrate.constraints import Constraint, InsolvencyProbability
from calibrate.correct import FreshSamples, Line, corrected, eased
from calibrate.elsewhere import elsewhere
from calibrate.metrics import most_events
from calibrate.optimise import FrozenSamples, Problem, Solution, solve, tighter
from calibrate.progress import Listener
from calibrate.rare_events import Chosen
from calibrate.shocks import derived_seed
from calibrate.simulate import values_of

ATTEMPTS = 3
# An upper limit may be far off for want of losses, which a tighter policy would not mend.
_TIGHTEN_AT_MOST = 2.0
# A policy is corrected along the way to one whose limits are this much tighter.
_TIGHTER = 0.6
# A last search ends where a step gains less than this.
_LAST_GAIN = 5e-4
# Of its target, at which a limit counts as used up.
_BINDS = 0.95
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
    sample.learn(start)
    aim = _aim(problem, effort, sample)
    solution = solve(sample, start, aim)
    if not solution.feasible:
        listener.note("the search found no policy that keeps the limits; trying from elsewhere")
        again = solve(sample, elsewhere(sample, aim), aim)
        solution = min(solution, again, key=lambda one: max(one.excess.values()))
    if not solution.feasible:
        # Told at once: what a run does without a recommendation takes its time.
        listener.note(why := why_infeasible(sample.problem, solution))
        return Recommendation("infeasible", why, solution, None)

    return _attempts(problem, effort, _rehearsed(problem, effort, sample, solution, listener), listener)


class _Rehearsed(NamedTuple):
    """A solution on paths that the search has not seen: the line on which it is corrected, those paths, and the shares of the
    limits to aim at."""

    solution: Solution
    line: Line
    fresh: FreshSamples
    aim: np.ndarray


def _rehearsed(
    problem: Problem, effort: Effort, searched: FrozenSamples, solution: Solution, listener: Listener
) -> _Rehearsed:
    """Search once more, on some of the paths, and see on all of them what the limits take."""

    def rehearsal(paths: int) -> FrozenSamples:
        return FrozenSamples(
            problem,
            seed=derived_seed(effort.seed, "rehearsal"),
            paths=paths,
            weighted_paths=paths,
            learned=[part.chosen for part in searched.parts],
            listener=listener,
            stage="rehearsal",
        )

    # As many paths as a search without weights would have know better which of the efficient policies is the best.
    some = rehearsal(effort.optimiser_paths)
    some.learn(solution.point)
    aim = _aim(problem, effort, some)
    polished = solve(some, solution.point, aim, nearby=True, rounds=1, smallest_gain=_LAST_GAIN)
    solution = polished if polished.feasible else solution
    room = np.array([constraint.room for constraint in problem.limits])
    line = Line(solution.point, tighter(some, solution.point, aim * room, _TIGHTER), problem.low, problem.high)
    # Where about the limits hold is known now: there it is seen which paths matter, and how sharp weighted evidence will be.
    every = rehearsal(effort.paths)
    every.screen(solution.point, aim)
    fresh = FreshSamples(every)
    spreads = fresh.spreads(solution.point, confidence_of_attempt(effort.confidence, 1))
    aims = [
        mine if part.sampling is None else room_for(*spread)
        for mine, part, spread in zip(problem.apart(aim), every.parts, spreads, strict=True)
    ]
    return _Rehearsed(solution, line, fresh, problem.joined(aims))


def _attempts(problem: Problem, effort: Effort, rehearsed: _Rehearsed, listener: Listener) -> Recommendation:
    """Certificates until one is granted: on more paths where the first was refused for noise alone, of tighter policies else."""
    solution, line, fresh, aim = rehearsed
    room = np.array([constraint.room for constraint in problem.limits])
    least = np.array([constraint.least for constraint in problem.limits])
    for attempt in range(1, ATTEMPTS + 1):
        targets = aim * room
        point = corrected(fresh, line, targets, line.place_of(solution.point))
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
        more = paths_of_attempt(effort.paths, effort.most_paths, attempt + 1) > certificate.paths
        if attempt == 1 and more and noise_alone(certificate):
            listener.note("certificate refused, though every estimate is within its limit; trying more paths")
            continue
        missed_by = (np.array([holding.upper for holding in certificate.holdings]) - least) / room
        aim = aim / np.clip(1.05 * missed_by, 1.0, _TIGHTEN_AT_MOST)
        listener.note("certificate refused" + ("; trying a tighter policy" if attempt < ATTEMPTS else ""))
    return Recommendation("not certified", _why_refused(certificate), solution, certificate)


def _aim(problem: Problem, effort: Effort, sample: FrozenSamples) -> np.ndarray:
    """The shares of limits to aim at, as far as is known before a certificate's paths are rehearsed."""
    paths = effort.paths
    learned = ((part.problem.constraints, part.chosen) for part in sample.parts)
    return problem.joined(
        [headrooms(limits, chosen, paths, paths, effort.confidence) for limits, chosen in learned if chosen is not None]
    )


def margin_alone(problem: Problem, point: np.ndarray) -> Line | None:
    """Policies that differ in the level of the margin alone, where it is free. Which of several parameters gives way most
    efficiently is often a matter of next to nothing, and so of chance; how far the margin would have to by itself is not."""
    levels = np.isin(problem.names, ("base_margin", "volatility_multiplier"))
    anywhere = np.full(len(point), np.inf)
    return Line(point, np.where(levels, 1.2 * point, point), -anywhere, anywhere) if levels.any() else None


def noise_alone(certificate: Certificate) -> bool:
    """Whether a certificate was refused although every estimate keeps its limit and can be relied on."""
    return all(h.estimate.value <= h.limit and not h.poor for h in certificate.holdings)


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
    return room_for(norm.ppf(confidence_of_attempt(confidence, 1)) * own, np.hypot(own, fitted))


def room_for(reach: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The share of limits to aim at, given how far above a certificate's estimates their upper limits lie, and the error of the
    difference between those estimates and the ones that the policy is fitted to; both relative."""
    return np.maximum(1 / (1 + reach + norm.ppf(_CHANCE) * error), 1 / _TIGHTEN_AT_MOST)


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
    others = [other for other, used in solution.excess.items() if other != name and used > _BINDS]
    against = (
        f", while {' and '.join(others)} has no room left either: the limits work against each other" if others else ""
    )
    return (
        f"no policy within the bounds keeps the limits: at the safest one {name} is still {factor:.3g} times what the limit "
        f"of {limit:g} leaves room for{against}; widen the bounds or the largest change, or relax the limit"
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
