"""How every metric moves with the policy and with the world: elasticities, with standard errors.

They are central differences between two simulations of the same paths. Derivatives along the path would be exact for most
metrics, but not under an oracle that reports when a threshold is crossed: a report that comes a step earlier moves costs and
false liquidations by more than the derivative knows (the tests show by how much). Paths are drawn as those of the certificate,
whose weights depend on no parameter. Errors are those of a delete-a-group jackknife (Kott 2001), which counts that all figures
come from the same paths. Quantiles are left out: their differences are those of single paths.
"""

from typing import NamedTuple

import numpy as np

from calibrate.constraints import MEANS, SHORTFALLS, Constraint, InsolvencyProbability, MeanLimit, constraint_of
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.sampling import Sampling
from calibrate.sensitivity import WORLD_NAMES
from calibrate.simulate import Sample, Scenario, simulate, values_of, with_values

# Either way, of a parameter: the third-order error of so wide a difference is below 1 % of elasticities below 10.
_CHANGE = 0.05
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
    sampling: Sampling | None,
    *,
    seed: int,
    paths: int,
    tail_level: float,
    listener: Listener,
) -> list[Elasticity]:
    """Of every metric of which there is any, in the given parameters of the policy and in those of the world."""
    names = [
        name for name in (*policy_names, *WORLD_NAMES) if name in WORLD_NAMES or values_of(parameters, (name,))[0] != 0
    ]
    paths = min(paths, _PLAIN_PATHS if sampling is None else _WEIGHTED_PATHS)
    done = listener.stage("elasticities", (1 + 2 * len(names)) * paths)

    def simulated(parameters: Parameters) -> Sample:
        return simulate(scenario, parameters, seed=seed, paths=paths, sampling=sampling, on_progress=done)

    here, found = simulated(parameters), []
    for name in names:
        value = values_of(parameters, (name,))
        more, fewer = (
            simulated(with_values(parameters, (name,), np.asarray(factor * value, scenario.dtype)))
            for factor in (1 + _CHANGE, 1 - _CHANGE)
        )
        for metric, figure in _figures(tail_level).items():
            if all(field in here.values for field in figure.fields):
                elasticity, error = _with_error(figure, here, more, fewer)
                kind = "assumption" if name in WORLD_NAMES else "policy"
                found.append(Elasticity(metric, WORLD_NAMES.get(name, name), kind, elasticity, error))
    return [entry for entry in found if np.isfinite(entry.elasticity)]


def _figures(tail_level: float) -> dict[str, Constraint]:
    """How each metric is made of outcomes: as a limit on it is, whatever the limit."""
    fields = {"open_deficit": "open_deficit", "liquidated": "liquidated", "margin_per_oi": "initial_margin"}
    others = [MeanLimit(limit=1.0, name=name, fields=(field,), rare=False, least=0.0) for name, field in fields.items()]
    means = [constraint_of(name, 1.0, tail_level) for name in MEANS]
    shortfalls = {f"{name}_{100 * tail_level:g}": constraint_of(name, 1.0, tail_level) for name in SHORTFALLS}
    return {figure.name: figure for figure in (InsolvencyProbability(1.0), *means, *others)} | shortfalls


def _with_error(figure: Constraint, here: Sample, more: Sample, fewer: Sample) -> tuple[float, float]:
    group = np.arange(here.paths) % _GROUPS
    without = np.array([_elasticity(figure, here, more, fewer, group != k) for k in range(_GROUPS)])
    spread = without - without.mean()
    error = float(np.sqrt((_GROUPS - 1) / _GROUPS * (spread @ spread)))
    return _elasticity(figure, here, more, fewer, group >= 0), error


def _elasticity(figure: Constraint, here: Sample, more: Sample, fewer: Sample, some: np.ndarray) -> float:
    """From some of the paths; not a number where there is nothing to be changed."""

    def value(sample: Sample) -> float:
        weights = None if sample.weights is None else sample.weights[some]
        contribution = np.asarray(figure.contribution(sample.values), np.float64)[some]
        return figure.share(contribution, weights, int(some.sum())) + figure.least

    level = value(here)
    return (value(more) - value(fewer)) / (2 * _CHANGE * level) if level > 0 else float("nan")
