"""What drives the insolvency probability: elasticities to the policy and to the main assumptions.

An elasticity of 7 to the volatility level means: one per cent more volatility, seven per cent more insolvency. Policy
parameters, volatility level and depth are differentiated through the simulation (kernel estimator on the signed distance);
delays are whole steps, so their effect is a central difference of one step on common random numbers. Only paths near
insolvency carry information; they are found among the paths of the certificate and simulated again from their numbers.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from calibrate.gradient import bandwidth, probability_gradient
from calibrate.oracle import ContinuousOracle
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.simulate import Scenario, simulate, values_of

WORLD_NAMES = {"volatility_scale": "volatility level", "depth_scale": "market depth"}


class Sensitivity(NamedTuple):
    """Per cent change of the insolvency probability for one per cent more of a parameter."""

    parameter: str
    kind: str
    elasticity: float
    standard_error: float
    method: str


def sensitivities(
    scenario: Scenario,
    parameters: Parameters,
    policy_names: tuple[str, ...],
    distance: np.ndarray,
    *,
    seed: int,
    listener: Listener,
) -> list[Sensitivity]:
    """Elasticities of the insolvency probability at `parameters`, given every path's distance there."""
    events = int(np.count_nonzero(distance > 0))
    if events == 0:
        listener.note("no path was insolvent: elasticities of the insolvency probability cannot be told")
        return []
    smooth = _smooth(scenario, parameters, (*policy_names, *WORLD_NAMES), distance, seed)
    return smooth + _delays(scenario, parameters, distance, seed)


def _smooth(
    scenario: Scenario, parameters: Parameters, names: tuple[str, ...], distance: np.ndarray, seed: int
) -> list[Sensitivity]:
    paths, events = len(distance), int(np.count_nonzero(distance > 0))
    width = bandwidth(distance, events)
    near = np.flatnonzero(np.abs(distance) < 4 * width)
    sample = simulate(scenario, parameters, seed=seed, paths=near, fields=("distance",), derivatives=names)
    gradient = probability_gradient(sample.values["distance"], sample.derivatives["distance"], paths, width)
    level = events / paths
    scale = values_of(parameters, names) / level
    # The probability in the denominator is uncertain too: add its relative error, as if independent (it is nearly so).
    spread = np.hypot(scale * gradient.standard_error, scale * gradient.value / np.sqrt(events))
    return [
        Sensitivity(
            WORLD_NAMES.get(name, name),
            "assumption" if name in WORLD_NAMES else "policy",
            float(elasticity),
            float(error),
            "kernel estimator",
        )
        for name, elasticity, error in zip(names, scale * gradient.value, spread, strict=True)
    ]


def _delays(scenario: Scenario, parameters: Parameters, distance: np.ndarray, seed: int) -> list[Sensitivity]:
    """Oracle and keeper delay: central differences of one step; from no delay at all, a difference of one step upwards."""
    places = {"keeper delay": lambda s: s.venue.keeper_delay.steps}
    if not isinstance(scenario.oracle, ContinuousOracle):
        places["oracle delay"] = lambda s: s.oracle.delay.steps
    paths, events = len(distance), int(np.count_nonzero(distance > 0))
    # A step more of delay moves no path across this much of the ranking.
    candidates = np.sort(np.argsort(-distance, kind="stable")[: min(paths, max(20_000, 30 * events))])
    rows = []
    for name, where in places.items():
        steps = int(where(scenario))
        low, high = max(steps - 1, 0), steps + 1
        insolvent = [
            simulate(
                eqx.tree_at(where, scenario, jnp.int32(delay)),
                parameters,
                seed=seed,
                paths=candidates,
                fields=("distance",),
            ).values["distance"]
            > 0
            for delay in (low, high)
        ]
        change = insolvent[1].astype(float) - insolvent[0]
        unit = max(steps, 1) / ((high - low) * events)
        rows.append(
            Sensitivity(
                name if steps else f"{name} (from none to one step)",
                "assumption",
                float(change.sum() * unit),
                float(np.sqrt((change**2).sum()) * unit),
                "paired difference",
            )
        )
    return rows
