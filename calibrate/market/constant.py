"""Constant volatility: geometric Brownian motion. The model in which closed forms are known; no one's real market.

The step is exact in law for every step size.
"""

import jax.numpy as jnp

from calibrate.market.model import JumpLaw, Market, MarketMove, MarketState, StepShocks
from calibrate.units import PerPath, Scalar


class ConstantVolatility(Market):
    """`volatility` and `drift` are annual; the price's expectation grows at the drift."""

    volatility: Scalar
    drift: Scalar

    def start(self, normal: PerPath) -> MarketState:
        zero = jnp.zeros_like(normal)
        return MarketState(zero, zero)

    def jump_law(self, log_volatility: PerPath, dt: Scalar) -> JumpLaw | None:
        del log_volatility, dt
        return None

    def step(self, state: MarketState, shocks: StepShocks, dt: Scalar, scale: Scalar) -> tuple[MarketState, MarketMove]:
        volatility = scale * self.volatility
        log_return = (self.drift - volatility**2 / 2) * dt + volatility * jnp.sqrt(dt) * shocks.return_normal
        zero = jnp.zeros_like(log_return)
        move = MarketMove(volatility + zero, zero, zero)
        return MarketState(state.log_price + log_return, state.log_volatility), move

    def variance_rate(self, log_volatility: PerPath, scale: Scalar) -> PerPath:
        return (scale * self.volatility) ** 2 + jnp.zeros_like(log_volatility)
