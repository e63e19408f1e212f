"""Stochastic volatility that reverts in logs, with a leverage effect and two-sided exponential jumps.

Log-volatility follows an Ornstein-Uhlenbeck process (Scott 1987), so volatility is lognormal in the long run: calm years
and crashes come from one law. Prices jump with double-exponential sizes (Kou 2002) at a rate that rises with volatility.
The volatility step is exact in law; the return uses the volatility at the start of the step, an error that vanishes in
proportion to the step and is below a thousandth of the variance at one minute and half-lives above an hour.
"""

import jax.numpy as jnp

from calibrate.extremes import smaller
from calibrate.market.model import Jump, JumpLaw, Market, MarketMove, MarketState, StepShocks
from calibrate.units import PerPath, Scalar


class LogOUKou(Market):
    """Annual units. `jumps_per_year` is the arrival rate at median volatility, mean jump sizes are absolute log-returns,
    `log_volatility_sd` is the stationary standard deviation of log-volatility. `initial_log_volatility` is None for a
    start drawn from the stationary law."""

    volatility: Scalar
    log_volatility_sd: Scalar
    reversion_per_year: Scalar
    leverage_correlation: Scalar
    jumps_per_year: Scalar
    jump_volatility_exponent: Scalar
    jump_up_probability: Scalar
    jump_up_mean: Scalar
    jump_down_mean: Scalar
    drift: Scalar
    initial_log_volatility: Scalar | None

    def start(self, normal: PerPath) -> MarketState:
        if self.initial_log_volatility is None:
            log_volatility = self.log_volatility_sd * normal
        else:
            log_volatility = self.initial_log_volatility + jnp.zeros_like(normal)
        return MarketState(jnp.zeros_like(normal), log_volatility)

    def jump_law(self, log_volatility: PerPath, dt: Scalar) -> JumpLaw:
        return JumpLaw(smaller(self._jump_rate(log_volatility) * dt, 1.0), self.jump_up_probability)

    def step(self, state: MarketState, shocks: StepShocks, dt: Scalar, scale: Scalar) -> tuple[MarketState, MarketMove]:
        log_volatility = state.log_volatility
        volatility = scale * self.volatility * jnp.exp(log_volatility)
        jump_probability = self.jump_law(log_volatility, dt).probability
        assert shocks.jump is not None
        jump = scale * self._size(shocks.jump)

        rho = self.leverage_correlation
        normal = rho * shocks.volatility_normal + jnp.sqrt(1 - rho**2) * shocks.return_normal
        drift = (self.drift - volatility**2 / 2) * dt - jump_probability * self._mean_relative_jump(scale)
        log_return = drift + volatility * jnp.sqrt(dt) * normal + jump

        decay = jnp.exp(-self.reversion_per_year * dt)
        spread = self.log_volatility_sd * jnp.sqrt(-jnp.expm1(-2 * self.reversion_per_year * dt))
        next_log_volatility = decay * log_volatility + spread * shocks.volatility_normal
        move = MarketMove(volatility, log_volatility, jump)
        return MarketState(state.log_price + log_return, next_log_volatility), move

    def variance_rate(self, log_volatility: PerPath, scale: Scalar) -> PerPath:
        up, down = self.jump_up_mean, self.jump_down_mean
        squared_jump = 2 * (self.jump_up_probability * up**2 + (1 - self.jump_up_probability) * down**2)
        diffusion = (self.volatility * jnp.exp(log_volatility)) ** 2
        return scale**2 * (diffusion + self._jump_rate(log_volatility) * squared_jump)

    def _jump_rate(self, log_volatility: PerPath) -> PerPath:
        return self.jumps_per_year * jnp.exp(self.jump_volatility_exponent * log_volatility)

    def _mean_relative_jump(self, scale: Scalar) -> Scalar:
        """E[exp(jump)] - 1, which the drift takes back so that the price's expectation grows at `drift`."""
        up, down = scale * self.jump_up_mean, scale * self.jump_down_mean
        return self.jump_up_probability * up / (1 - up) - (1 - self.jump_up_probability) * down / (1 + down)

    def _size(self, jump: Jump) -> PerPath:
        size = jnp.where(jump.upward, self.jump_up_mean, -self.jump_down_mean) * jump.excess
        return jnp.where(jump.occurs, size, 0.0)
