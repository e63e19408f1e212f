"""How every metric moves with the policy and with the world: elasticities, with standard errors.

They are central differences between two simulations of the same paths. Derivatives along the path would be exact for most
metrics, but not under an oracle that reports when a threshold is crossed: a report that comes a step earlier moves costs and
false liquidations by more than the derivative knows (the tests show by how much). Paths are drawn as those of the certificate:
their weights depend on no policy, and where the market's law is another one they are those of that law. Errors are those of a
delete-a-group jackknife (Kott 2001), which counts that all figures come from the same paths. Quantiles are left out: their
differences are those of single paths.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calibrate.assumptions import Assumption
from calibrate.constraints import MEANS, SHORTFALLS, Constraint, InsolvencyProbability, MeanLimit, constraint_of
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.sampling import Sampling
from calibrate.sensitivity import WORLD_NAMES
from calibrate.simulate import Sample, Scenario, simulate, values_of, with_values

# Either way, of a parameter: the third-order error of so wide a difference is below 1 % of elasticities below 10.
CHANGE = 0.05
_WEIGHTED_PATHS, _PLAIN_PATHS, _GROUPS = 16_384, 65_536, 16


class Elasticity(NamedTuple):
    """Per cent change of the metric `of` for one per cent more of a parameter."""

    of: str
    parameter: str
    kind: str
    elasticity: float
    standard_error: float


def elasticities(
    scenario: Scenario,
    parameters: Parameters,
    policy_names: tuple[str, ...],
    sample: Sample,
    sampling: Sampling | None,
    *,
    seed: int,
    tail_level: float,
    listener: Listener,
    assumptions: Sequence[Assumption] = (),
) -> list[Elasticity]:
    """Of every metric of which there is any, in the given parameters of the policy, in those of the world, and in the numbers that
    are assumed of it, changed by `CHANGE`. `sample` is one at `parameters`, `seed` and `sampling` are how it was drawn."""
    varied = _varied(scenario, parameters, (*policy_names, *WORLD_NAMES))
    varied += [Varied(name, "assumption", (more, parameters), (fewer, parameters)) for name, more, fewer in assumptions]
    paths = min(sample.paths, _PLAIN_PATHS if sampling is None else _WEIGHTED_PATHS)
    # Of weighted paths all is kept that is needed here; of plain ones, which may be many, it is not.
    known = None if sample.weights is None else sample.some(np.arange(paths))
    done = listener.stage("elasticities", ((known is None) + 2 * len(varied)) * paths)

    def simulated(scenario: Scenario, parameters: Parameters) -> Sample:
        return simulate(scenario, parameters, seed=seed, paths=paths, sampling=sampling, on_progress=done)

    here, found = known or simulated(scenario, parameters), []
    figures = {
        metric: figure
        for metric, figure in _figures(tail_level).items()
        if all(field in here.values for field in figure.fields)
    }
    levels = {metric: _by_groups(figure, here) for metric, figure in figures.items()}
    for name, kind, *ends in varied:
        more, fewer = (simulated(*end) for end in ends)
        for metric, figure in figures.items():
            change = _by_groups(figure, more) - _by_groups(figure, fewer)
            found.append(Elasticity(metric, name, kind, *_with_error(change, levels[metric])))
    return [entry for entry in found if np.isfinite(entry.elasticity)]


class Varied(NamedTuple):
    """A number that is changed, and what is simulated with more and with less of it."""

    name: str
    kind: str
    more: tuple[Scenario, Parameters]
    fewer: tuple[Scenario, Parameters]


def _varied(scenario: Scenario, parameters: Parameters, names: Sequence[str]) -> list[Varied]:
    """Parameters of the policy and the world, but those of zero, of which there is no per cent."""
    found = []
    for name in names:
        (value,) = values_of(parameters, (name,))
        ends = [
            (scenario, with_values(parameters, (name,), np.asarray([factor * value], scenario.dtype)))
            for factor in (1 + CHANGE, 1 - CHANGE)
        ]
        kind = "assumption" if name in WORLD_NAMES else "policy"
        found += [Varied(WORLD_NAMES.get(name, name), kind, *ends)] if value != 0 else []
    return found


def _figures(tail_level: float) -> dict[str, Constraint]:
    """How each metric is made of outcomes: as a limit on it is, whatever the limit."""
    fields = {"open_deficit": "open_deficit", "liquidated": "liquidated", "margin_per_oi": "initial_margin"}
    others = [MeanLimit(limit=1.0, name=name, fields=(field,), rare=False, least=0.0) for name, field in fields.items()]
    means = [constraint_of(name, 1.0, tail_level) for name in MEANS]
    shortfalls = {f"{name}_{100 * tail_level:g}": constraint_of(name, 1.0, tail_level) for name in SHORTFALLS}
    return {figure.name: figure for figure in (InsolvencyProbability(1.0), *means, *others)} | shortfalls


def _by_groups(figure: Constraint, sample: Sample) -> np.ndarray:
    """The figure from all paths, and without each group of them."""
    contribution = np.asarray(figure.contribution(sample.values), np.float64)
    group = np.arange(sample.paths) % _GROUPS

    def without(left_out: int) -> float:
        some = group != left_out
        weights = None if sample.weights is None else sample.weights[some]
        return figure.share(contribution[some], weights, int(some.sum())) + figure.least

    # There is no group of the number -1.
    return np.array([without(k) for k in range(-1, _GROUPS)])


def _with_error(change: np.ndarray, level: np.ndarray) -> tuple[float, float]:
    """The elasticity and its standard error, from all paths and without each group; not a number where there is nothing to be
    changed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        elasticity = np.where(level > 0, change / (2 * CHANGE * level), np.nan)
    spread = elasticity[1:] - elasticity[1:].mean()
    return float(elasticity[0]), float(np.sqrt((_GROUPS - 1) / _GROUPS * (spread @ spread)))
