"""The evidence: a policy's limits on paths that no one has looked at before.

A certificate is made on its own seed, with at least ten times the optimiser's paths. Every limit is held against the upper
confidence limit of its estimate. Where a first certificate is refused, a tighter policy may be proposed and tried again; the
confidence is then shared out over the attempts, so that trying until it fits does not weaken what is claimed.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from calibrate.constraints import Constraint, Shortfall
from calibrate.metrics import USER_COST, Estimate
from calibrate.optimise import Problem
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.rare_events import Chosen, choose
from calibrate.shocks import derived_seed
from calibrate.simulate import Sample, Scenario, simulate, simulated
from calibrate.summary import Outcomes, summarised
from calibrate.weighing import Diagnosis, diagnose


class Holding(NamedTuple):
    """One limit, its estimate, and the upper confidence limit that is held against it; where paths are weighted, what the
    estimate rests on; where it is an expectation over scenarios, which part of it each makes up."""

    name: str
    limit: float
    estimate: Estimate
    upper: float
    diagnosis: Diagnosis | None = None
    parts: tuple[float, ...] | None = None

    @property
    def poor(self) -> str | None:
        """Why the estimate cannot be relied on, if it cannot."""
        return self.diagnosis.poor if self.diagnosis else None

    @property
    def satisfied(self) -> bool:
        return self.upper <= self.limit and self.poor is None


class Certificate(NamedTuple):
    """What was simulated and how it was drawn, and whether every limit is kept at the stated confidence (shared out over the
    attempts)."""

    holdings: tuple[Holding, ...]
    paths: int
    seed: int
    attempt: int
    confidence: float
    sample: Sample
    chosen: Chosen

    @property
    def granted(self) -> bool:
        return all(holding.satisfied for holding in self.holdings)


def certify(
    problem: Problem,
    parameters: Parameters,
    *,
    seed: int,
    paths: int,
    attempt: int,
    confidence: float,
    listener: Listener,
) -> Certificate:
    """Simulate `paths` fresh paths of the attempt, under every scenario, and hold every limit against its upper confidence
    limit. The sample that is kept is that of the first scenario. The confidence in an expectation over scenarios is shared
    out over them."""
    own_seed = derived_seed(seed, "certificate", attempt)
    shared = confidence_of_attempt(confidence, attempt)
    stage = f"certificate, attempt {attempt}" if attempt > 1 else "certificate"
    each = 1 - (1 - shared) / len(problem.shares or (1,))
    found = []
    for part in problem.each:
        sample, chosen = measured(
            part.scenario,
            parameters,
            part.constraints,
            sampling=part.sampling,
            seed=own_seed,
            paths=paths,
            stage=stage,
            listener=listener,
            tail_level=problem.tail_level,
        )
        found.append((tuple(hold(c, sample.values, sample.weights, each) for c in part.constraints), sample, chosen))
    by_scenario = [part for part, _, _ in found]
    if problem.shares:
        holdings = tuple(expected_holding(problem.shares, limit) for limit in zip(*by_scenario, strict=True))
    else:
        holdings = tuple(holding for part in by_scenario for holding in part)
    _, sample, chosen = found[0]
    return Certificate(holdings, paths, own_seed, attempt, shared, sample, chosen)


def measured(
    scenario: Scenario,
    parameters: Parameters,
    constraints: tuple[Constraint, ...],
    *,
    sampling: str,
    seed: int,
    paths: int,
    stage: str,
    listener: Listener,
    tail_level: float,
    weighted_paths: int | None = None,
    known: Chosen | None = None,
) -> tuple[Sample, Chosen]:
    """Outcomes under a policy, drawn in the way that suits what the limits are about, or as is `known` to suit them from having
    been learned there. Of weighted paths there may be fewer. Of plain paths, which may be many, only distances are kept, and what
    figures need whose tails begin at `tail_level` or above."""
    chosen = known or choose(
        scenario, parameters, constraints, kind=sampling, at_limit=False, seed=seed, listener=listener
    )
    paths = paths if chosen.sampling is None else weighted_paths or paths
    done = listener.stage(stage, paths)
    if chosen.sampling is not None:
        sample = simulate(scenario, parameters, seed=seed, paths=paths, sampling=chosen.sampling, on_progress=done)
        return sample, chosen
    level = min([tail_level, *(limit.level for limit in constraints if isinstance(limit, Shortfall))])
    sums = {USER_COST, *(limit.fields for limit in constraints if len(limit.fields) > 1)}
    pieces = simulated(scenario, parameters, seed=seed, paths=paths, on_progress=done)
    return Sample(summarised(pieces, paths, sorted(sums), level, ("distance",)), {}, ()), chosen


def expected_holding(shares: tuple[float, ...], each: tuple[Holding, ...]) -> Holding:
    """A limit on an expectation over scenarios. Its upper limit is that of the scenarios' upper limits: no less cautious than
    they are together. What any scenario's estimate rests on must do."""
    values = np.array([share * holding.estimate.value for share, holding in zip(shares, each, strict=True)])
    errors = np.array([share * holding.estimate.standard_error for share, holding in zip(shares, each, strict=True)])
    value, error = float(values.sum()), float(np.sqrt(errors @ errors))
    reach = float(norm.ppf(0.975)) * error
    warning = next((holding.estimate.warning for holding in each if holding.estimate.warning), None)
    diagnoses = [holding.diagnosis for holding in each if holding.diagnosis]
    return Holding(
        each[0].name,
        each[0].limit,
        Estimate(value, error, (max(value - reach, 0.0), value + reach), warning),
        sum(share * holding.upper for share, holding in zip(shares, each, strict=True)),
        min(diagnoses, key=lambda d: (d.poor is None, d.effective_paths)) if diagnoses else None,
        tuple(float(part) for part in values / max(value, 1e-300)),
    )


def paths_of_attempt(paths: int, most_paths: int, attempt: int) -> int:
    """Each further attempt takes twice the paths of the last, as far as there may be so many."""
    return min(paths * 2 ** (attempt - 1), max(paths, most_paths))


def confidence_of_attempt(confidence: float, attempt: int) -> float:
    """The first of several attempts gets half of the probability of error, each further one half of what is left."""
    return 1 - (1 - confidence) * 0.5**attempt


def hold(constraint: Constraint, outcomes: Outcomes, weights: np.ndarray | None, confidence: float) -> Holding:
    values = constraint.contribution(outcomes)
    diagnosis = None
    if weights is not None:
        diagnosis = diagnose(constraint.terms(values, weights, at_limit=False), weights)
    return Holding(
        constraint.name,
        constraint.limit,
        constraint.estimate(values, weights),
        constraint.upper(values, weights, confidence),
        diagnosis,
    )
