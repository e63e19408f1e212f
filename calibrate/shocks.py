"""Counter-based random numbers: the shocks of path `i` at step `t` depend on (seed, i, t) and on nothing else.

So results do not depend on the chunk size or on the order in which chunks run, any subset of paths can be simulated again,
and all candidate policies face the same futures. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011). One counter value gives four 32-bit words. Two of them make two normals (Box and Muller 1958), with
sine and cosine as polynomials, since the library's do not use the processor's vectors.

The compiler computes the generator anew for every array that is made of its words. So two normals travel as one array of
complex numbers, and so do the two uniforms of a Brownian bridge.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, UInt

from calibrate.units import PerPath, Words

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint32(0xD2511F53), np.uint32(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10

# Which purpose a counter serves: the last of its four words.
_STREAM_STEP, _STREAM_BRIDGE, _STREAM_START, _STREAM_MORE = 0, 1, 2, 3
# From here on two for each source of a joint model: its steps and its start.
_STREAM_SOURCES = 4


class PathIds(NamedTuple):
    """Global numbers of the simulated paths, split into two words so that there may be more than 2**32 of them."""

    low: UInt[Array, " path"]
    high: UInt[Array, " path"]


class Seed(NamedTuple):
    """The generator's key. Two words from one non-negative integer below 2**64."""

    low: UInt[Array, ""]
    high: UInt[Array, ""]


class Needs(NamedTuple):
    """What a market takes in a step beyond two normals and the uniform of its jump. Known when a program is compiled: what
    is not needed is not made."""

    third_normal: bool = False
    regime_uniform: bool = False
    block_uniform: bool = False


NO_MORE = Needs()


class StartDraws(NamedTuple):
    """What draws a path's start: its volatility, the law that it is drawn from where there are several, a second factor of
    its volatility, and its regime."""

    normal: PerPath
    law_uniform: PerPath
    second_normal: PerPath
    regime_uniform: PerPath


class Shocks(NamedTuple):
    """The shocks of a block of steps. `normals` holds two independent standard normals as real and imaginary part,
    `extremes` two uniforms likewise, where the oracle is continuous. The last three are there for markets that need them."""

    normals: Complex[Array, "*step path"]
    jump_uniform: Float[Array, "*step path"]
    extremes: Complex[Array, "*step path"] | None
    third_normal: Float[Array, "*step path"] | None = None
    regime_uniform: Float[Array, "*step path"] | None = None
    block_uniform: Float[Array, "*step path"] | None = None

    @property
    def return_normal(self) -> Float[Array, "*step path"]:
        return self.normals.real

    @property
    def volatility_normal(self) -> Float[Array, "*step path"]:
        return self.normals.imag

    @property
    def low_uniform(self) -> Float[Array, "*step path"] | None:
        return None if self.extremes is None else self.extremes.real

    @property
    def high_uniform(self) -> Float[Array, "*step path"] | None:
        return None if self.extremes is None else self.extremes.imag


def seed_words(seed: int) -> Seed:
    return Seed(jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32(seed >> 32))


def path_ids(numbers: np.ndarray) -> PathIds:
    numbers = np.asarray(numbers, dtype=np.uint64)
    return PathIds(
        jnp.asarray((numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32)),
        jnp.asarray((numbers >> np.uint64(32)).astype(np.uint32)),
    )


def start_draws(seed: Seed, ids: PathIds, dtype: np.dtype) -> StartDraws:
    first, second, third, fourth = philox(_counter(ids, jnp.uint32(0), _STREAM_START), seed)
    both = normals(first, second, dtype)
    return StartDraws(both.real, uniform(third, dtype), both.imag, uniform(fourth, dtype))


def shocks_of_steps(
    seed: Seed, ids: PathIds, steps: UInt[Array, " step"], dtype: np.dtype, *, continuous: bool, needs: Needs = NO_MORE
) -> Shocks:
    """Shocks for all paths at the given steps."""
    first, second, third, fourth = philox(_counter(ids, steps[:, None], _STREAM_STEP), seed)
    extremes = third_normal = regime_uniform = block_uniform = None
    if continuous:
        low, high, _, _ = philox(_counter(ids, steps[:, None], _STREAM_BRIDGE), seed)
        extremes = lax.complex(uniform(low, dtype), uniform(high, dtype))
    if needs.regime_uniform:
        regime_uniform = uniform(fourth, dtype)
    if needs.third_normal or needs.block_uniform:
        radius, angle, block, _ = philox(_counter(ids, steps[:, None], _STREAM_MORE), seed)
        third_normal = normals(radius, angle, dtype).real if needs.third_normal else None
        block_uniform = uniform(block, dtype) if needs.block_uniform else None
    made = normals(first, second, dtype), uniform(third, dtype)
    return Shocks(*made, extremes, third_normal, regime_uniform, block_uniform)


class SourceShocks(NamedTuple):
    """What one source of a joint model draws in a step: two independent standard normals as real and imaginary part, and a uniform.
    Every asset has a source of its own, and each mixes them with those of the assets before it."""

    normals: Complex[Array, " path"]
    uniform: PerPath


def source_shocks(
    seed: Seed, ids: PathIds, step: Words, source: int, dtype: np.dtype, *, start: bool = False
) -> SourceShocks:
    """Shocks of a source in a step, or at the `start`."""
    stream = _STREAM_SOURCES + 2 * source + start
    first, second, third, _ = philox(_counter(ids, step, stream), seed)
    return SourceShocks(normals(first, second, dtype), uniform(third, dtype))


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


# Taylor series about zero, highest power first, in the square of an angle within an eighth of a turn: the first power left
# out is below 2e-9.
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(4, -1, -1))
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(5, -1, -1))


def normals(radius_word: Words, angle_word: Words, dtype: np.dtype) -> Complex[Array, "..."]:
    """Two independent standard normals from 64 random bits: a point of the plane in polar coordinates. The squared radius
    is exponential, with 32 bits in its tail: it reaches 6.7 standard deviations."""
    radius = jnp.sqrt(-2 * jnp.log(uniform(radius_word, dtype)))
    # The two highest bits choose a quarter of a turn, the others the place within an eighth on either side of its middle.
    within = (angle_word << 2).astype(jnp.int32).astype(dtype) * np.asarray(2.0**-32 * np.pi / 2, dtype)
    square = within * within
    sine, cosine = within * _polynomial(_SINE, square), _polynomial(_COSINE, square)
    odd, behind = (angle_word >> 30) & 1 == 1, angle_word >> 31 == 1
    radius = jnp.where(behind, -radius, radius)
    return lax.complex(radius * jnp.where(odd, -sine, cosine), radius * jnp.where(odd, cosine, sine))


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + np.asarray(coefficient, x.dtype)
    return value


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """An independent seed for each purpose (optimiser, certificate, ...), so that no sample is ever its own evidence."""
    entropy = [seed, number, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
