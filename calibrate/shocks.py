"""Counter-based random numbers: the shocks of path `i` at step `t` depend on (seed, i, t) and on nothing else.

So results do not depend on the chunk size or on the order in which chunks run, any subset of paths can be simulated again,
and all candidate policies face the same futures. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011). One counter value gives four 32-bit words; a normal is the inverse normal distribution function
applied to the smaller tail, so that it is right beyond six standard deviations.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt

from calibrate.units import PerPath, Words

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint32(0xD2511F53), np.uint32(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10

# Which purpose a counter serves: the last of its four words.
_STREAM_STEP, _STREAM_BRIDGE, _STREAM_START = 0, 1, 2


class PathIds(NamedTuple):
    """Global numbers of the simulated paths, split into two words so that there may be more than 2**32 of them."""

    low: UInt[Array, " path"]
    high: UInt[Array, " path"]


class Seed(NamedTuple):
    """The generator's key. Two words from one non-negative integer below 2**64."""

    low: UInt[Array, ""]
    high: UInt[Array, ""]


class Shocks(NamedTuple):
    """The shocks of a block of steps: two normals and a uniform; two more uniforms where the oracle is continuous."""

    return_normal: Float[Array, "step path"]
    volatility_normal: Float[Array, "step path"]
    jump_uniform: Float[Array, "step path"]
    low_uniform: Float[Array, "step path"] | None
    high_uniform: Float[Array, "step path"] | None


def seed_words(seed: int) -> Seed:
    return Seed(jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32(seed >> 32))


def path_ids(numbers: np.ndarray) -> PathIds:
    numbers = np.asarray(numbers, dtype=np.uint64)
    return PathIds(
        jnp.asarray((numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32)),
        jnp.asarray((numbers >> np.uint64(32)).astype(np.uint32)),
    )


def start_normal(seed: Seed, ids: PathIds, dtype: np.dtype) -> PerPath:
    """The normal that draws a path's volatility at the start."""
    word, _, _, _ = philox(_counter(ids, jnp.uint32(0), _STREAM_START), seed)
    return normal(word, dtype)


def shocks_of_steps(
    seed: Seed, ids: PathIds, steps: UInt[Array, " step"], dtype: np.dtype, *, continuous: bool
) -> Shocks:
    """Shocks for all paths at the given steps."""
    first, second, third, _ = philox(_counter(ids, steps[:, None], _STREAM_STEP), seed)
    low = high = None
    if continuous:
        low_word, high_word, _, _ = philox(_counter(ids, steps[:, None], _STREAM_BRIDGE), seed)
        low, high = uniform(low_word, dtype), uniform(high_word, dtype)
    return Shocks(normal(first, dtype), normal(second, dtype), uniform(third, dtype), low, high)


def _counter(ids: PathIds, step: Words, stream: int) -> tuple[Words, Words, Words, Words]:
    shape = jnp.broadcast_shapes(ids.low.shape, step.shape)
    return (
        jnp.broadcast_to(ids.low, shape),
        jnp.broadcast_to(ids.high, shape),
        jnp.broadcast_to(step, shape),
        jnp.full(shape, stream, jnp.uint32),
    )


def philox(counter: tuple[Words, Words, Words, Words], seed: Seed) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10: four words that are a bijection of the counter, chosen by the key."""
    c0, c1, c2, c3 = counter
    key0, key1 = seed
    for _ in range(_ROUNDS):
        high0, low0 = _wide_product(_MULTIPLIER_0, c0)
        high1, low1 = _wide_product(_MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = key0 + _WEYL_0, key1 + _WEYL_1
    return c0, c1, c2, c3


def _wide_product(multiplier: np.uint32, word: Words) -> tuple[Words, Words]:
    factor = jnp.full_like(word, multiplier)
    return lax.mulhi(factor, word), factor * word


def uniform(word: Words, dtype: np.dtype) -> Float[Array, "..."]:
    """Uniform in (0, 1): the middle of one of 2**32 cells (in float32 the largest may round to 1)."""
    return word.astype(dtype) * np.asarray(2.0**-32, dtype) + np.asarray(2.0**-33, dtype)


# z as a polynomial in r = sqrt(-2 log p), p the smaller tail, on the range of r that 32 random bits can reach:
# Chebyshev interpolation of the exact inverse normal distribution function, largest error 1.6e-6 (a test recomputes it).
_SMALLEST_R, _LARGEST_R = 1.1774100225154747, 6.7637056350018945
_NORMAL_COEFFICIENTS = (
    3.36898554274,
    3.05683179772,
    -0.13513195994,
    0.0740787992208,
    -0.0422216790556,
    0.0221580475989,
    -0.0118666332407,
    0.0151596892943,
    -0.0116974530311,
    -0.00611006417694,
    0.00601796944124,
    0.00685951457179,
    -0.00510649592818,
)


def normal(word: Words, dtype: np.dtype) -> Float[Array, "..."]:
    """Standard normal from 32 random bits: the lowest chooses the tail, the others the place in it (up to 6.3)."""
    tail = (word >> 1).astype(dtype) * np.asarray(2.0**-32, dtype) + np.asarray(2.0**-33, dtype)
    r = jnp.sqrt(-2 * jnp.log(tail))
    centred = (r - np.asarray((_SMALLEST_R + _LARGEST_R) / 2, dtype)) * np.asarray(
        2 / (_LARGEST_R - _SMALLEST_R), dtype
    )
    size = jnp.full_like(centred, _NORMAL_COEFFICIENTS[-1])
    for coefficient in _NORMAL_COEFFICIENTS[-2::-1]:
        size = size * centred + np.asarray(coefficient, dtype)
    return jnp.where(word & 1, size, -size)


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """An independent seed for each purpose (optimiser, certificate, ...), so that no sample is ever its own evidence."""
    entropy = [seed, number, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
