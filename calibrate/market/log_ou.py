"""Stochastic volatility that reverts in logs, with a leverage effect.

Log-volatility follows an Ornstein-Uhlenbeck process (Scott 1987), so volatility is lognormal in the long run: calm years
and crashes come from one law. The volatility step is exact in law; the return uses the volatility at the start of the step, an
error in proportion to the step. Measured (`benchmarks/step_sizes.py`): with the shipped model of ETH, whose half-life is 4.9 days,
puts 15 % below the price over a week are 4.0, 2.1 and 0.9 % too cheap (each ± 0.3 %) at steps of 24, 12 and 6 hours; in that
proportion it is 0.003 % at one minute.
"""

import jax.numpy as jnp

from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import StartDraws
from calibrate.units import PerPath, Scalar


class LogOU(Volatility):
    """Annual units; `volatility` is the median, `log_volatility_sd` the stationary standard deviation of log-volatility. What
    is carried is log-volatility relative to its median. `initial_log_volatility` is None for a start drawn from the
    stationary law."""

    volatility: Scalar
    log_volatility_sd: Scalar
    reversion_per_year: Scalar
    leverage_correlation: Scalar
    initial_log_volatility: Scalar | None = None

    def start(self, draws: StartDraws) -> PerPath:
        if self.initial_log_volatility is None:
            return self.log_volatility_sd * draws.normal
        return self.initial_log_volatility + jnp.zeros_like(draws.normal)

    def usual(self, like: PerPath) -> PerPath:
        return jnp.zeros_like(like)

    def log_level(self, state: PerPath) -> PerPath:
        return state

    def variance_rate(self, state: PerPath) -> PerPath:
        return (self.volatility * jnp.exp(state)) ** 2

    def step(
        self, state: PerPath, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[PerPath, Diffusion]:
        volatility = scale * self.volatility * jnp.exp(state)
        rho = self.leverage_correlation
        normal = rho * shocks.volatility_normal + jnp.sqrt(1 - rho**2) * shocks.return_normal
        diffusion = Diffusion(volatility, (drift - volatility**2 / 2) * dt, volatility * jnp.sqrt(dt) * normal)

        # What a step takes back is tiny: as 1 - exp(-x) single precision would lose most of its digits, over a day a drift.
        reverted = jnp.expm1(-self.reversion_per_year * dt) * state
        spread = self.log_volatility_sd * jnp.sqrt(-jnp.expm1(-2 * self.reversion_per_year * dt))
        return state + (reverted + spread * shocks.volatility_normal), diffusion
