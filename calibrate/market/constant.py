"""Constant volatility: geometric Brownian motion. The model in which closed forms are known; no one's real market.

The step is exact in law for every step size.
"""

import jax.numpy as jnp

from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import StartDraws
from calibrate.units import PerPath, Scalar


class ConstantVolatility(Volatility):
    """`volatility` is annual. What is carried is zero: it only says how many paths there are."""

    volatility: Scalar

    def start(self, draws: StartDraws) -> PerPath:
        return self.usual(draws.normal)

    def usual(self, like: PerPath) -> PerPath:
        return jnp.zeros_like(like)

    def log_level(self, state: PerPath) -> PerPath:
        return jnp.zeros_like(state)

    def variance_rate(self, state: PerPath) -> PerPath:
        return self.volatility**2 + jnp.zeros_like(state)

    def step(
        self, state: PerPath, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[PerPath, Diffusion]:
        volatility = scale * self.volatility
        mean = (drift - volatility**2 / 2) * dt
        noise = volatility * jnp.sqrt(dt) * shocks.return_normal
        return state, Diffusion(volatility + jnp.zeros_like(noise), mean, noise)
