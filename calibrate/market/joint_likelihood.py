"""The likelihood of several assets' returns: calm and crash, jumps of all assets at once, and jumps of each alone.

Within a bar the regime stands, and given which jumps come all returns are normal together: with covariance `D C D` of the regime's
volatilities and correlations, to which a shared jump of standard deviation `s` adds `s^2 b b'` along the betas `b`, and an own jump
its variance on the diagonal. Where a jump comes, further ones may come in the same bar: their mean number given that there is
one multiplies mean and variance, which is exact in both. Own jumps of up to two assets come in a bar: those of three are
rare, and their share is given to the others. Hamilton's filter (1989) carries the probability of a crash from bar to bar.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

MOST_OWN_JUMPS = 2


class JointLaw(NamedTuple):
    """What the likelihood is of. Rates are annual, volatilities annual and in calm, sizes of jumps log-returns; betas are relative
    to the shared jump's mean and standard deviation."""

    volatility: Float[Array, " asset"]
    crash_volatility: Float[Array, " asset"]
    calm: Float[Array, "asset asset"]
    crash: Float[Array, "asset asset"]
    beta: Float[Array, " asset"]
    shared_rate: Float[Array, ""]
    shared_mean: Float[Array, ""]
    shared_sd: Float[Array, ""]
    own_rate: Float[Array, " asset"]
    own_mean: Float[Array, " asset"]
    own_sd: Float[Array, " asset"]
    crash_jumps: Float[Array, ""]
    into_crash: Float[Array, ""]
    out_of_crash: Float[Array, ""]


Returns = Float[Array, "bar asset"]


def log_density(law: JointLaw, returns: Returns, bar: float) -> Float[Array, " bar"]:
    """Of each bar's returns given those before it; `bar` in years."""
    one = jnp.ones(())
    calm = _given_regime(law, law.volatility, law.calm, one, returns, bar)
    crash = _given_regime(law, law.volatility * law.crash_volatility, law.crash, law.crash_jumps, returns, bar)
    share = law.into_crash / (law.into_crash + law.out_of_crash)
    kept = jnp.exp(-(law.into_crash + law.out_of_crash) * bar)

    def step(probability: Array, log_ratio: Array) -> tuple[Array, Array]:
        # Both densities relative to the larger one, so that neither overflows.
        largest = jnp.maximum(log_ratio, 0.0)
        of_crash, of_calm = probability * jnp.exp(log_ratio - largest), (1 - probability) * jnp.exp(-largest)
        total = of_crash + of_calm
        return share + (of_crash / total - share) * kept, jnp.log(total) + largest

    return calm + jax.lax.scan(step, share, crash - calm)[1]


def _given_regime(
    law: JointLaw, volatility: Array, correlation: Array, more_jumps: Array, returns: Returns, bar: float
) -> Float[Array, " bar"]:
    own, of_all = _patterns(len(law.volatility))
    own_count, shared_count = (rate * more_jumps * bar for rate in (law.own_rate, law.shared_rate))
    own_chance, shared_chance = -jnp.expm1(-own_count), -jnp.expm1(-shared_count)
    own_given, shared_given = own_count / own_chance, shared_count / shared_chance
    log_weight = jnp.sum(jnp.where(own, jnp.log(own_chance), jnp.log1p(-own_chance)), axis=1)
    log_weight = log_weight + jnp.where(of_all, jnp.log(shared_chance), jnp.log1p(-shared_chance))
    log_weight = log_weight - jax.nn.logsumexp(log_weight)

    compensator = own_count * _relative(law.own_mean, law.own_sd)
    compensator = compensator + shared_count * _relative(law.beta * law.shared_mean, law.beta * law.shared_sd)
    mean = own * own_given * law.own_mean + of_all[:, None] * shared_given * law.beta * law.shared_mean
    mean = mean - volatility**2 * bar / 2 - compensator
    covariance = bar * correlation * jnp.outer(volatility, volatility)
    covariance = covariance + jax.vmap(jnp.diag)(own * own_given * law.own_sd**2)
    covariance = covariance + of_all[:, None, None] * shared_given * law.shared_sd**2 * jnp.outer(law.beta, law.beta)

    root = jnp.linalg.cholesky(covariance)
    inverse = solve_triangular(root, jnp.broadcast_to(jnp.eye(len(volatility)), root.shape), lower=True)
    whitened = jnp.einsum("pij,npj->npi", inverse, returns[:, None] - mean)
    log_root = jnp.log(jnp.diagonal(inverse, axis1=1, axis2=2)).sum(axis=1)
    constant = log_weight + log_root - len(volatility) / 2 * np.log(2 * np.pi)
    return jax.nn.logsumexp(constant - jnp.sum(whitened**2, axis=2) / 2, axis=1)


def _patterns(assets: int) -> tuple[np.ndarray, np.ndarray]:
    """All patterns of jumps: which assets have one of their own, and whether there is a shared one."""
    chosen = [c for size in range(MOST_OWN_JUMPS + 1) for c in itertools.combinations(range(assets), size)]
    own = np.zeros((len(chosen), assets), bool)
    for row, jumping in enumerate(chosen):
        own[row, list(jumping)] = True
    return np.concatenate([own, own]), np.repeat([False, True], len(chosen))


def _relative(mean: Array, sd: Array) -> Array:
    """How much a jump lets the price grow by on average."""
    return jnp.expm1(mean + sd**2 / 2)


def summed_by(blocks: np.ndarray, each: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The log-likelihood of whole blocks of bars, as a function of the search vector."""
    return lambda vector: jax.ops.segment_sum(each(vector), jnp.asarray(blocks), int(blocks[-1]) + 1)
