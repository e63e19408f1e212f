"""The larger and the smaller of two arrays, in one machine instruction each.

`jnp.maximum` and `jnp.minimum` promise to pass on "not a number" and to tell the two zeros apart. On a CPU that takes six
instructions, and their derivatives split ties evenly, which takes as many again; the time loop is full of them. Here a
comparison decides; where the two are equal, or either is not a number, the second is taken. `simulate.finish` watches for
results that are not numbers.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array


def larger(a: ArrayLike, b: ArrayLike) -> Array:
    return jnp.where(jnp.greater(a, b), a, b)


def smaller(a: ArrayLike, b: ArrayLike) -> Array:
    return jnp.where(jnp.less(a, b), a, b)


def clipped(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """The value, or the end of the range that it lies beyond."""
    return smaller(larger(value, low), high)
