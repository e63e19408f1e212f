"""What drives the insolvency probability: elasticities to the policy and to the main assumptions.

An elasticity of 7 to the volatility level means: one per cent more volatility, seven per cent more insolvency. Policy
parameters, volatility level and depth are differentiated through the simulation (kernel estimator on the signed distance);
delays are whole steps, so their effect is a central difference of one step on common random numbers. More jumps move no path but
make others likelier: to the slope along the path comes the derivative of the likelihood of the jumps that came. Only paths near
insolvency, or beyond it, carry information; they are found among the paths of the certificate and simulated again from their
numbers.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from calibrate.gradient import edge_of
from calibrate.metrics import Estimate, frequency
from calibrate.oracle import ContinuousOracle
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.sampling import Sampling
from calibrate.simulate import Sample, Scenario, simulate, values_of

# How a delay that is none is varied: what it tells is of a whole step, not of a share of the delay.
STEP_FROM_NONE = "paired difference from none"
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
    sample: Sample,
    sampling: Sampling | None,
    *,
    seed: int,
    listener: Listener,
) -> list[Sensitivity]:
    """Elasticities of the insolvency probability at `parameters`, given a sample there, its seed and how it was drawn."""
    known = Known(scenario, parameters, sample, sampling, seed)
    if not np.any(known.distance > 0):
        listener.note("no path was insolvent: elasticities of the insolvency probability cannot be told")
        return []
    return _smooth(known, (*policy_names, *WORLD_NAMES)) + _jump_rate(known) + _delays(known)


_WEIGHTED_PATHS = 40_000


class Known(NamedTuple):
    """A simulated sample, and how any part of it can be simulated again."""

    scenario: Scenario
    parameters: Parameters
    sample: Sample
    sampling: Sampling | None
    seed: int

    @property
    def distance(self) -> np.ndarray:
        return self.sample.values["distance"]

    @property
    def weights(self) -> np.ndarray:
        return np.ones(self.sample.paths) if self.sample.weights is None else self.sample.weights

    @property
    def paths_needed(self) -> int:
        """Weighted paths tell so much more that some of them suffice."""
        return self.sample.paths if self.sample.weights is None else min(self.sample.paths, _WEIGHTED_PATHS)

    def insolvent(self) -> Estimate:
        return frequency(self.distance > 0, self.sample.weights)

    def again(
        self,
        scenario: Scenario,
        numbers: np.ndarray,
        derivatives: tuple[str, ...] = (),
        fields: tuple[str, ...] = ("distance",),
    ) -> Sample:
        """Some of the paths, with other rules or with derivatives."""
        return simulate(
            scenario,
            self.parameters,
            seed=self.seed,
            paths=numbers,
            fields=fields,
            derivatives=derivatives,
            sampling=self.sampling,
        )


def _jump_rate(known: Known) -> list[Sensitivity]:
    """How often jumps come, where there are any. Each insolvent path counts by the score of its jumps (Glynn 1990), whose mean over
    all paths is zero; the drift, which takes back what jumps are expected to bring, moves along the path."""
    if known.scenario.market.jumps is None:
        return []
    paths, level = known.paths_needed, known.insolvent()
    distance = known.distance[:paths]
    edge = edge_of(distance, known.weights[:paths], known.scenario.venue.covered)
    telling = np.flatnonzero(edge.tells_or_insolvent(distance))
    world = known.parameters.world
    rated = known.parameters._replace(world=world._replace(jump_rate_scale=jnp.ones_like(world.volatility_scale)))
    again = known._replace(parameters=rated)
    sample = again.again(known.scenario, telling, ("jump_rate_scale",), ("distance", "log_likelihood"))
    slopes = sample.derivatives
    gradient = edge.gradient(
        sample.values["distance"], slopes["distance"], paths, known.weights[telling], slopes["log_likelihood"]
    )
    elasticity = float(gradient.value[0] / level.value)
    spread = np.hypot(gradient.standard_error[0], elasticity * level.standard_error) / level.value
    return [Sensitivity("jump rate", "assumption", elasticity, float(spread), "likelihood of jumps")]


def _smooth(known: Known, names: tuple[str, ...]) -> list[Sensitivity]:
    paths = known.paths_needed
    distance, weights = known.distance[:paths], known.weights[:paths]
    level = known.insolvent()
    edge = edge_of(distance, weights, known.scenario.venue.covered)
    near = np.flatnonzero(edge.tells(distance))
    sample = known.again(known.scenario, near, names)
    gradient = edge.gradient(sample.values["distance"], sample.derivatives["distance"], paths, weights[near])
    scale = values_of(known.parameters, names) / level.value
    # The probability in the denominator is uncertain too: add its relative error, as if independent (it is nearly so).
    spread = np.hypot(
        scale * gradient.standard_error, scale * gradient.value * level.standard_error / level.value
    )  # fmt: skip
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


def _delays(known: Known) -> list[Sensitivity]:
    """Oracle and keeper delay: central differences of one step; from no delay at all, a difference of one step upwards."""
    places = {"keeper delay": lambda s: s.venue.keeper_delay.steps}
    if not isinstance(known.scenario.oracle, ContinuousOracle):
        places["oracle delay"] = lambda s: s.oracle.delay.steps
    paths = known.paths_needed
    distance = known.distance[:paths]
    # A step more of delay moves no path across this much of the ranking.
    most = max(20_000, 30 * int(np.count_nonzero(distance > 0)))
    candidates = np.sort(np.argsort(-distance, kind="stable")[: min(paths, most)])
    weights, level = known.weights[candidates], known.insolvent().value
    rows = []
    for name, where in places.items():
        steps = int(where(known.scenario))
        low, high = max(steps - 1, 0), steps + 1
        insolvent = [
            known.again(eqx.tree_at(where, known.scenario, jnp.int32(delay)), candidates).values["distance"] > 0
            for delay in (low, high)
        ]
        change = weights * (insolvent[1].astype(float) - insolvent[0])
        unit = max(steps, 1) / ((high - low) * level * paths)
        rows.append(
            Sensitivity(
                name if steps else f"{name} (from none to one step)",
                "assumption",
                float(change.sum() * unit),
                float(np.sqrt((change**2).sum()) * unit),
                "paired difference" if steps else STEP_FROM_NONE,
            )
        )
    return rows
