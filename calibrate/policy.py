"""What the venue chooses, and the state of the world that it does not choose.

`Policy` holds the margin parameters; `World` the level of the main assumptions, all 1 unless a sensitivity is asked for. Both
are plain numbers per name, so that any subset can be differentiated or optimised: `Parameters` is the pair.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from calibrate.extremes import clipped, larger, smaller
from calibrate.units import PerPath, Scalar


class Policy(NamedTuple):
    """Fractions of notional, unless said. The maintenance margin is `base_margin` plus `volatility_multiplier` times the
    venue's volatility forecast over its margin horizon, not below `margin_floor`; the initial margin is `initial_ratio`
    times that. A liquidated account pays `penalty`, of which `keeper_share` goes to the keeper. `forecast_memory` (years)
    is the time constant of the forecast, `stress_weight` the share of the forecast that stressed volatility replaces.
    The maintenance margin rises and falls by no more than `margin_rise` and `margin_fall` a year; None is no limit."""

    base_margin: Scalar
    volatility_multiplier: Scalar
    margin_floor: Scalar
    initial_ratio: Scalar
    penalty: Scalar
    keeper_share: Scalar
    forecast_memory: Scalar
    stress_weight: Scalar
    margin_rise: Scalar | None = None
    margin_fall: Scalar | None = None


class World(NamedTuple):
    """Multipliers of the assumptions: all price risk (diffusion and jumps), market depth, and how often jumps come. The last is
    there where a derivative in it is wanted, which needs more than the path (`Outcome.log_likelihood`)."""

    volatility_scale: Scalar
    depth_scale: Scalar
    jump_rate_scale: Scalar | None = None

    @property
    def jump_rate(self) -> Scalar | float:
        return 1.0 if self.jump_rate_scale is None else self.jump_rate_scale


class Parameters(NamedTuple):
    policy: Policy
    world: World


def with_values(
    parameters: Parameters, names: Sequence[str], values: Float[Array | np.ndarray, " parameter"]
) -> Parameters:
    """Parameters with the named fields, of the policy or the world, replaced."""
    policy, world = parameters
    for name, value in zip(names, values, strict=True):
        if name in Policy._fields:
            policy = policy._replace(**{name: value})
        else:
            world = world._replace(**{name: value})
    return Parameters(policy, world)


class MarginRule(eqx.Module):
    """What is fixed about the margin: limits, the share of the penalty added to it, and its horizon in years. A venue whose
    policy gives weight to stress has a `stressed_volatility` (annual)."""

    lowest: Scalar
    highest: Scalar
    penalty_allowance: Scalar
    horizon: Scalar
    stressed_volatility: Scalar | None = None

    def maintenance(self, policy: Policy, variance_rate: PerPath) -> PerPath:
        """Maintenance margin as a fraction of notional, given the venue's forecast of annual variance; the speed of its changes
        is not limited yet."""
        forecast = jnp.sqrt(larger(variance_rate, 1e-12) * self.horizon)
        if self.stressed_volatility is not None:
            stressed = self.stressed_volatility * jnp.sqrt(self.horizon)
            forecast = (1 - policy.stress_weight) * forecast + policy.stress_weight * stressed
        margin = larger(policy.base_margin + policy.volatility_multiplier * forecast, policy.margin_floor)
        return clipped(margin + self.penalty_allowance * policy.penalty, self.lowest, self.highest)

    def next_maintenance(self, policy: Policy, variance_rate: PerPath, before: PerPath, dt: Scalar) -> PerPath:
        """Maintenance margin one step of `dt` years after it was `before`."""
        margin = self.maintenance(policy, variance_rate)
        if policy.margin_fall is not None:
            margin = larger(margin, before - policy.margin_fall * dt)
        if policy.margin_rise is not None:
            margin = smaller(margin, before + policy.margin_rise * dt)
        return margin
