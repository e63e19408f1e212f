"""What every market model offers: a start, and a step from shocks to log-price and volatility.

A model knows nothing of venues. Its state is the *undisturbed* log-price, the one that the market would have without the
venue's liquidations, and the log of volatility relative to its median. One step takes the state and the shocks of one time
step to the next state, and reports the volatility that ruled in the step.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx

from calibrate.units import PerPath, Scalar


class MarketState(NamedTuple):
    """Log-price relative to the start, and log-volatility relative to its median."""

    log_price: PerPath
    log_volatility: PerPath


class StepShocks(NamedTuple):
    """The shocks of one step: two independent standard normals, one uniform in (0, 1)."""

    return_normal: PerPath
    volatility_normal: PerPath
    jump_uniform: PerPath


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
    def step(self, state: MarketState, shocks: StepShocks, dt: Scalar, scale: Scalar) -> tuple[MarketState, MarketMove]:
        """The state one step of `dt` years later, and what happened in it."""

    @abstractmethod
    def variance_rate(self, log_volatility: PerPath, scale: Scalar) -> PerPath:
        """Expected annual variance of log-returns, diffusion and jumps, at the given log-volatility."""
