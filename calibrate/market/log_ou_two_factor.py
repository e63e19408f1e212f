"""Stochastic volatility on two time scales: shocks that fade within hours on top of moods that last for weeks.

Log-volatility is the sum of two independent Ornstein-Uhlenbeck processes, each with its own correlation with returns (Chernov,
Gallant, Ghysels and Tauchen 2003). The volatility step is exact in law; the return uses the volatility at the start of the
step, an error in proportion to the step over the shorter half-life. Measured (`benchmarks/step_sizes.py`): with the shipped model
of DOGE, whose fast half-life is seven hours, puts 8 % below the price over a day are 15.1, 8.0 and 4.0 % too dear (each ± 0.5 %)
at steps of 4, 2 and 1 hours; in that proportion it is 0.07 % at one minute.
"""

from typing import NamedTuple

import jax.numpy as jnp

from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import Needs, StartDraws
from calibrate.units import PerPath, Scalar


class Factor(NamedTuple):
    """One time scale: stationary standard deviation of its part of log-volatility, annual speed of its reversion, correlation of
    its changes with returns."""

    sd: Scalar
    reversion_per_year: Scalar
    leverage_correlation: Scalar

    def step(self, level: PerPath, normal: PerPath, dt: Scalar) -> PerPath:
        spread = self.sd * jnp.sqrt(-jnp.expm1(-2 * self.reversion_per_year * dt))
        return level + (jnp.expm1(-self.reversion_per_year * dt) * level + spread * normal)


class Levels(NamedTuple):
    """Each factor's part of log-volatility."""

    fast: PerPath
    slow: PerPath


class TwoFactorLogOU(Volatility):
    """`volatility` is the annual median. Squares of the two leverage correlations sum to less than 1. With an
    `initial_log_volatility` (their sum, relative to the median) the factors start from their law given the sum, or the fast one
    at `initial_fast`."""

    needs = Needs(third_normal=True)

    volatility: Scalar
    fast: Factor
    slow: Factor
    initial_log_volatility: Scalar | None = None
    initial_fast: Scalar | PerPath | None = None

    def start(self, draws: StartDraws) -> Levels:
        if self.initial_log_volatility is None:
            return Levels(self.fast.sd * draws.normal, self.slow.sd * draws.second_normal)
        if self.initial_fast is not None:
            fast = self.initial_fast + jnp.zeros_like(draws.normal)
            return Levels(fast, self.initial_log_volatility - fast)
        # Not a number where both spreads are zero is avoided by the smallest of numbers.
        total = self.fast.sd**2 + self.slow.sd**2 + jnp.finfo(draws.normal.dtype).tiny
        around = self.fast.sd * self.slow.sd / jnp.sqrt(total) * draws.normal
        fast = self.fast.sd**2 / total * self.initial_log_volatility + around
        return Levels(fast, self.initial_log_volatility - fast)

    def usual(self, like: PerPath) -> Levels:
        zero = jnp.zeros_like(like)
        return Levels(zero, zero)

    def log_level(self, state: Levels) -> PerPath:
        return state.fast + state.slow

    def variance_rate(self, state: Levels) -> PerPath:
        return (self.volatility * jnp.exp(self.log_level(state))) ** 2

    def step(
        self, state: Levels, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[Levels, Diffusion]:
        assert shocks.third_normal is not None
        volatility = scale * self.volatility * jnp.exp(self.log_level(state))
        fast, slow = self.fast.leverage_correlation, self.slow.leverage_correlation
        own = jnp.sqrt(1 - fast**2 - slow**2) * shocks.return_normal
        normal = fast * shocks.volatility_normal + slow * shocks.third_normal + own
        diffusion = Diffusion(volatility, (drift - volatility**2 / 2) * dt, volatility * jnp.sqrt(dt) * normal)
        after = Levels(
            self.fast.step(state.fast, shocks.volatility_normal, dt),
            self.slow.step(state.slow, shocks.third_normal, dt),
        )
        return after, diffusion
