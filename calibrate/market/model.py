"""What every market model offers: a start, and a step from shocks to log-price and volatility.

A model knows nothing of venues. Its state is the *undisturbed* log-price, the one that the market would have without the
venue's liquidations, and the log of volatility relative to its median. One step takes the state and the shocks of one time
step to the next state, and reports the volatility that ruled in the step.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.extremes import clipped, larger
from calibrate.units import PerPath, Scalar


class MarketState(NamedTuple):
    """Log-price relative to the start, and log-volatility relative to its median."""

    log_price: PerPath
    log_volatility: PerPath


class JumpLaw(NamedTuple):
    """How likely a jump is within a step, and given one, that it is upward."""

    probability: PerPath
    upward: Scalar


class Jump(NamedTuple):
    """Whether a path jumps in a step, whether upward, and a standard exponential that the size grows with. Where there is no
    jump the last two mean nothing."""

    occurs: Bool[Array, " path"]
    upward: Bool[Array, " path"]
    excess: PerPath


class StepShocks(NamedTuple):
    """The shocks of one step: two independent standard normals, and the jump where the model has jumps."""

    return_normal: PerPath
    volatility_normal: PerPath
    jump: Jump | None


class MarketMove(NamedTuple):
    """What a step did: the volatility (annual) and the log-volatility that ruled in it, and its jump in the log-price."""

    volatility: PerPath
    log_volatility: PerPath
    jump: PerPath


class Market(eqx.Module):
    """A market model. `scale` multiplies diffusive volatility and jump sizes alike: the level of all risk, 1 by default."""

    @abstractmethod
    def start(self, normal: PerPath) -> MarketState:
        """The state at the start, from one standard normal a path."""

    @abstractmethod
    def jump_law(self, log_volatility: PerPath, dt: Scalar) -> JumpLaw | None:
        """The law of jumps in a step that starts at the given log-volatility; None for a model without jumps. It must not
        depend on any parameter that derivatives are taken in."""

    @abstractmethod
    def step(self, state: MarketState, shocks: StepShocks, dt: Scalar, scale: Scalar) -> tuple[MarketState, MarketMove]:
        """The state one step of `dt` years later, and what happened in it."""

    @abstractmethod
    def variance_rate(self, log_volatility: PerPath, scale: Scalar) -> PerPath:
        """Expected annual variance of log-returns, diffusion and jumps, at the given log-volatility."""


def draw_jump(law: JumpLaw, uniform: PerPath) -> Jump:
    """Whether there is a jump, its direction and its size, all from one uniform: given that it lies below the probability,
    the uniform divided by it is uniform again, and once more within either direction."""
    place = uniform / larger(law.probability, jnp.finfo(uniform.dtype).tiny)
    upward = place < law.upward
    # Outside its own branch each share is given a harmless value, so that no derivative is infinite there.
    up_share = jnp.where(upward, place / jnp.maximum(law.upward, 1e-12), 1.0)
    down_share = (place - law.upward) / jnp.maximum(1 - law.upward, 1e-12)
    share = jnp.where(upward, up_share, clipped(down_share, 1e-9, 1.0))
    return Jump(uniform < law.probability, upward, -jnp.log(share))
