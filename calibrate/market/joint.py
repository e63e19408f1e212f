"""From a joint model to the market of one asset, and how its normals are mixed of those of all.

Every asset is a market of its own (`market.py`): its law alone can be simulated, tilted and fitted as any other. What makes assets
move together is in their shocks. Each has a source of normals of its own and mixes them with those of the assets before it, by
a row of the Cholesky factor of the correlation matrix; shared jumps and regimes are drawn from numbers that all assets see
(`joint_sampling.py`). So several assets on the same paths are several simulations under one seed.

Correlations hold for the normals of a step. Those of returns are the file's at every step; those of changes of log-volatility are
exact where half-lives are equal, and otherwise off with the square of the step over the shorter one: with half-lives of 6 hours
and 10 days correlations are 1.9 % too high at steps of 6 hours, 0.05 % at an hour (in closed form).
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from calibrate.market.arrival import ConstantArrival
from calibrate.market.build import market_from
from calibrate.market.joint_files import BETA, JointModel, returns_given_volatility
from calibrate.market.kou import KouSizes
from calibrate.market.market import Jumps, Market
from calibrate.market.merton import MertonSizes
from calibrate.market.model import Sizes


def market_of_asset(
    joint: JointModel, asset: str, initial_volatility: float | np.ndarray | None, step_s: float, dtype: np.dtype
) -> Market:
    """The market of one asset, by its own law: own and shared jumps, and the regimes of all."""
    market = market_from(joint.marginal(asset), initial_volatility, step_s, dtype)
    if joint.jumps is None:
        return market
    rate = jnp.asarray(joint.parameters["jumps_per_year"], dtype)
    shared = Jumps(ConstantArrival(rate), _shared_sizes(joint, joint.own[asset][1][BETA], dtype))
    return eqx.tree_at(lambda m: m.shared, market, shared, is_leaf=lambda x: x is None)


def _shared_sizes(joint: JointModel, beta: float, dtype: np.dtype) -> Sizes:
    """Sizes of shared jumps in an asset of this beta. All assets' are made of the same direction and exponential, so one is beta
    times another, exactly."""
    value = {name: jnp.asarray(number, dtype) for name, number in joint.parameters.items()}
    if joint.jumps == "merton":
        return MertonSizes(beta * value["jump_mean"], beta * value["jump_sd"])
    return KouSizes(value["jump_up_probability"], beta * value["jump_up_mean"], beta * value["jump_down_mean"])


class Mixing(NamedTuple):
    """How the normals of one asset are made of the sources of all: those of returns in calm and in a crash, of volatility, and of
    volatility at the start. Each has unit length, and nothing of sources after the asset's own, which `own` marks with a one. All
    assets have as many numbers, so that one compiled program serves them all."""

    calm: Float[Array, " source"]
    crash: Float[Array, " source"]
    volatility: Float[Array, " source"]
    start: Float[Array, " source"]
    own: Float[Array, " source"]


def mixing_of(joint: JointModel, asset: str, dtype: np.dtype) -> Mixing:
    """Rows of Cholesky factors."""
    number = joint.assets.index(asset)

    def row(matrix: np.ndarray) -> Array:
        return jnp.asarray(np.linalg.cholesky(matrix)[number], dtype)

    calm = row(returns_given_volatility(joint, "calm"))
    crash = row(returns_given_volatility(joint, "crash")) if joint.regimes is not None else calm
    volatility = joint.correlation.get("volatility", np.eye(len(joint.assets)))
    own = jnp.asarray(np.eye(len(joint.assets))[number], dtype)
    return Mixing(calm, crash, row(volatility), row(volatility * _start_over_step(joint)), own)


def _start_over_step(joint: JointModel) -> np.ndarray:
    """How much less two log-volatilities are correlated in the long run than their changes are: Ornstein-Uhlenbeck processes of
    speeds `a` and `b` have `2 sqrt(a b) / (a + b)` of it."""
    half_lives = [joint.own[asset][1].get("reversion_half_life_days", 1.0) for asset in joint.assets]
    speeds = 1 / np.array(half_lives)
    return 2 * np.sqrt(np.outer(speeds, speeds)) / (speeds[:, None] + speeds[None, :])
