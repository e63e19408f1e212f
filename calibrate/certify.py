"""The evidence: a policy's limits on paths that no one has looked at before.

A certificate is made on its own seed, with at least ten times the optimiser's paths. Every limit is held against the upper
confidence limit of its estimate. Where a first certificate is refused, a tighter policy may be proposed and tried again; the
confidence is then shared out over the attempts, so that trying until it fits does not weaken what is claimed.
"""

from typing import NamedTuple

import numpy as np

from calibrate.constraints import Constraint
from calibrate.metrics import Estimate
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.shocks import derived_seed
from calibrate.simulate import Sample, Scenario, simulate


class Holding(NamedTuple):
    """One limit, its estimate, and the upper confidence limit that is held against it."""

    name: str
    limit: float
    estimate: Estimate
    upper: float

    @property
    def satisfied(self) -> bool:
        return self.upper <= self.limit


class Certificate(NamedTuple):
    """What was simulated, and whether every limit is kept at the stated confidence (shared out over the attempts)."""

    holdings: tuple[Holding, ...]
    paths: int
    seed: int
    attempt: int
    confidence: float
    sample: Sample

    @property
    def granted(self) -> bool:
        return all(holding.satisfied for holding in self.holdings)


def certify(
    scenario: Scenario,
    parameters: Parameters,
    constraints: tuple[Constraint, ...],
    *,
    seed: int,
    paths: int,
    attempt: int,
    confidence: float,
    listener: Listener,
) -> Certificate:
    """Simulate `paths` fresh paths of the attempt and hold every limit against its upper confidence limit."""
    own_seed = derived_seed(seed, "certificate", attempt)
    done = listener.stage(f"certificate, attempt {attempt}" if attempt > 1 else "certificate", paths)
    sample = simulate(scenario, parameters, seed=own_seed, paths=paths, on_progress=done)
    shared = confidence_of_attempt(confidence, attempt)
    holdings = tuple(hold(constraint, sample.values, shared) for constraint in constraints)
    return Certificate(holdings, paths, own_seed, attempt, shared, sample)


def confidence_of_attempt(confidence: float, attempt: int) -> float:
    """The first of several attempts gets half of the probability of error, each further one half of what is left."""
    return 1 - (1 - confidence) * 0.5**attempt


def hold(constraint: Constraint, values: dict[str, np.ndarray], confidence: float) -> Holding:
    outcome = values[constraint.field]
    return Holding(
        constraint.name, constraint.limit, constraint.estimate(outcome), constraint.upper(outcome, confidence)
    )
