"""Saying to the compiler: compute this once, here.

XLA for CPUs copies cheap operations into every loop that uses their results, and once more for every derivative. Where the
operations are many, that costs more than memory would. It does not look into the branches of a condition, so what is computed
in one is written down once.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Bool, Float

Values = TypeVar("Values")
Elementwise = Callable[..., Float[Array, "..."]]


def computed_once(work: Callable[[], Values], sample: Float[Array, "..."]) -> Values:
    """What `work` returns. `sample` is any array of numbers that is at hand."""
    if jax.default_backend() != "cpu":
        # Other compilers fuse differently, and on a GPU a condition makes the host wait.
        return work()
    # Where there is no number, nothing else is one either.
    always = _is_number(lax.stop_gradient(sample[(0,) * sample.ndim]))
    # Written down once and read off twice: where one such piece of work holds another, its Python would run over and over.
    written, shapes = jax.make_jaxpr(work, return_shape=True)()
    leaves, tree = jax.tree.flatten(shapes)
    nothing = lambda: [jnp.full(leaf.shape, jnp.nan, leaf.dtype) for leaf in leaves]  # noqa: E731
    return jax.tree.unflatten(tree, lax.cond(always, jaxpr_as_fun(written), nothing))


@custom_vmap
def _is_number(value: Float[Array, ""]) -> Bool[Array, ""]:
    """True, which the compiler cannot know."""
    return value > -jnp.inf


@_is_number.def_vmap
def _are_numbers(count: int, batched: list[bool], values: Float[Array, " candidate"]) -> tuple[Bool[Array, ""], bool]:
    """One condition for all that are computed side by side: with one for each, both branches would be computed, and then chosen
    from."""
    del count, batched
    return _is_number(values[0]), False


def with_slopes(function: Elementwise) -> Elementwise:
    """The same function of scalars and arrays, element by element, with its partial derivatives computed once and not for
    each direction in which derivatives are taken. The first argument is an array."""
    smooth = jax.custom_jvp(function)

    def rule(primals, tangents):  # type: ignore[no-untyped-def]
        moving = [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]

        def slope(k: int) -> Float[Array, "..."]:
            alone = lambda x: function(*primals[:k], x, *primals[k + 1 :])  # noqa: E731
            return jax.jvp(alone, (primals[k],), (jnp.ones_like(primals[k]),))[1]

        value, slopes = computed_once(lambda: (function(*primals), [slope(k) for k in moving]), primals[0])
        return value, sum(rate * tangents[k] for rate, k in zip(slopes, moving, strict=True))

    smooth.defjvp(rule, symbolic_zeros=True)
    return functools.wraps(function)(smooth)
