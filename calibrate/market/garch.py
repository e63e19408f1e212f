"""Volatility that follows past returns, bar by bar: GARCH(1,1) and GJR with Student-t innovations.

The variance of a bar is `base + (alpha + gamma [return < 0]) return^2 + beta variance` of the bar before (Bollerslev 1987; Glosten,
Jagannathan and Runkle 1993), in annual units. Such a model is made at the frequency of its data and has no law of its own in
between; it is not the same model at another frequency (Drost and Nijman 1993). So bars stay bars: the step must divide a bar, and
a bar is subdivided. A Student-t is a normal whose variance is drawn, once for each bar, from an inverse gamma law; given that,
the price in the bar is a Brownian motion. Returns of whole bars are thus exactly those of the model for every step, and
within a bar there are calm and wild ones.

The expected price of a Student-t log-return is not finite. The drift therefore takes back the Ito term of the bar's variance,
not of what was drawn: the median of the price is as if returns were normal. Jumps do not feed the recursion.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.special import gammainccinv, gammaincinv

from calibrate.extremes import larger
from calibrate.market.curve import Curve, curve_of_quantiles, curve_of_samples
from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import StartDraws
from calibrate.units import Index, PerPath, Scalar


class VarianceRecursion(eqx.Module):
    """From a bar's variance and return to the next bar's variance. `volatility` is the root of the unconditional variance, which
    exists where `persistence` is below 1; a bar has `steps` steps."""

    volatility: Scalar
    alpha: Scalar
    beta: Scalar
    gamma: Scalar
    steps: int = eqx.field(static=True)

    @property
    def persistence(self) -> Scalar:
        """How much of a deviation of variance is left after a bar. Half of all returns are negative."""
        return self.alpha + self.gamma / 2 + self.beta

    def next_variance(self, variance: PerPath, bar_return: PerPath, bar: Scalar) -> PerPath:
        """`bar` is the length of a bar in years."""
        base = (1 - self.persistence) * self.volatility**2
        fall = larger(-bar_return, 0.0)
        return base + (self.alpha * bar_return**2 + self.gamma * fall**2) / bar + self.beta * variance

    def log_level(self, variance: PerPath) -> PerPath:
        return jnp.log(variance / self.volatility**2) / 2


class GarchState(NamedTuple):
    """Annual variance of the bar, what was drawn to multiply it, the bar's return so far, and the step within the bar."""

    variance: PerPath
    mixing: PerPath
    bar_return: PerPath
    position: Index


class Garch(Volatility):
    """`mixing` gives the logarithm of a bar's variance relative to the conditional one; through it no derivatives in the degrees
    of freedom pass. Variance starts at `initial_variance`, or else from its long-run law, `stationary` (logarithm)."""

    recursion: VarianceRecursion
    mixing: Curve
    initial_variance: Scalar | None = None
    stationary: Curve | None = None

    def start(self, draws: StartDraws) -> GarchState:
        return self._at(variance_at_start(self.initial_variance, self.stationary, draws.normal))

    def usual(self, like: PerPath) -> GarchState:
        return self._at(self.recursion.volatility**2 + jnp.zeros_like(like))

    def _at(self, variance: PerPath) -> GarchState:
        return GarchState(variance, jnp.ones_like(variance), jnp.zeros_like(variance), jnp.int32(0))

    def log_level(self, state: GarchState) -> PerPath:
        return self.recursion.log_level(state.variance)

    def variance_rate(self, state: GarchState) -> PerPath:
        return state.variance

    def step(
        self, state: GarchState, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[GarchState, Diffusion]:
        steps = self.recursion.steps
        mixing = jnp.where(state.position == 0, jnp.exp(self.mixing(shocks.volatility_normal)), state.mixing)
        volatility = jnp.sqrt(state.variance * mixing)
        noise = volatility * jnp.sqrt(dt) * shocks.return_normal
        bar_return, last = state.bar_return + noise, state.position == steps - 1
        after = GarchState(
            jnp.where(last, self.recursion.next_variance(state.variance, bar_return, steps * dt), state.variance),
            mixing,
            jnp.where(last, 0.0, bar_return),
            (state.position + 1) % steps,
        )
        mean = (drift - scale**2 * state.variance / 2) * dt
        return after, Diffusion(scale * volatility, mean, scale * noise)


def variance_at_start(given: Scalar | None, stationary: Curve | None, normal: PerPath) -> PerPath:
    if given is not None:
        return given + jnp.zeros_like(normal)
    assert stationary is not None
    return jnp.exp(stationary(normal))


# --- laws -----------------------------------------------------------------------------------------------------------------


def student_mixing(degrees_of_freedom: float, dtype: np.dtype) -> Curve:
    """Log of the variance, of mean 1, whose normal mixture is the Student-t of unit variance: inverse gamma, so that a high rank
    is a high variance."""
    half = degrees_of_freedom / 2

    def quantile(below: np.ndarray, above: np.ndarray) -> np.ndarray:
        gamma = np.where(below < above, gammainccinv(half, below), gammaincinv(half, above))
        return np.log((half - 1) / gamma)

    return curve_of_quantiles(quantile, dtype)


# Chains and bars that the long-run law of variance is sampled with.
_CHAINS, _LONGEST = 8192, 20_000


def stationary_log_variance(recursion: VarianceRecursion, innovations: np.ndarray, dtype: np.dtype) -> Curve:
    """The long-run law of log-variance, sampled: many chains over some ten times the memory of variance, at most 20,000 bars, with
    the given innovations of unit variance drawn at random. One rank of 8,192 is its resolution."""
    volatility, alpha, beta, gamma = (
        float(x) for x in (recursion.volatility, recursion.alpha, recursion.beta, recursion.gamma)
    )
    kept = alpha + gamma / 2 + beta
    rng = np.random.default_rng(0)
    variance = np.ones(_CHAINS)
    for _ in range(min(int(10 / (1 - kept)) + 100, _LONGEST)):
        moved = rng.choice(innovations, _CHAINS)
        feedback = alpha + np.where(moved < 0, gamma, 0.0)
        variance *= feedback * moved**2 + beta
        variance += 1 - kept
    return curve_of_samples(np.log(variance * volatility**2), dtype)
