"""A delay line: what was written some steps ago is read today.

The line is a ring with room for the longest delay; the delay itself is data, so that it can change without a new program.
A delay may grow with volatility (`growth`): then each path has its own place in the line, which never moves backwards, since
what has been read once is not followed by anything older.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class Delay(eqx.Module):
    """A delay of `steps` steps, at most `longest`. With `growth` that is the delay at median volatility, and it changes with
    this power of volatility."""

    steps: Index
    longest: int = eqx.field(static=True)
    growth: Scalar | None = None

    def empty_line(self, value: Float[Array, "*shape"]) -> Float[Array, "length *shape"]:
        """A line that yields `value` until something written has come through."""
        return jnp.broadcast_to(value, (self.longest + 1, *value.shape))

    def through(
        self, line: Float[Array, "length *shape"], step: Index, value: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "length *shape"], Float[Array, "*shape"]]:
        """Write today's value, read the one of `steps` steps ago."""
        length = self.longest + 1
        line = lax.dynamic_update_index_in_dim(line, value, step % length, 0)
        return line, lax.dynamic_index_in_dim(line, (step - self.steps) % length, keepdims=False)

    def first_place(self, like: PerPath) -> IndexPerPath | None:
        """The step that each path reads at first, long before anything is written; None where all read the same one."""
        return None if self.growth is None else jnp.full(like.shape, -self.longest, self.steps.dtype)

    def through_at_own_pace(
        self,
        line: Float[Array, "length path"],
        place: IndexPerPath,
        step: Index,
        value: PerPath,
        log_volatility: PerPath,
    ) -> tuple[Float[Array, "length path"], IndexPerPath, PerPath]:
        """Write today's value and read what the delay at today's volatility (relative to its median) has let through."""
        assert self.growth is not None
        length = self.longest + 1
        line = lax.dynamic_update_index_in_dim(line, value, step % length, 0)
        steps = jnp.minimum(jnp.floor(self.steps * jnp.exp(self.growth * log_volatility) + 0.5), self.longest)
        place = jnp.maximum(place, (step - steps.astype(step.dtype)).astype(place.dtype))
        return line, place, jnp.take_along_axis(line, (place % length)[None], axis=0)[0]


def delay_of(steps: int, *, growth: Scalar | None = None, longest: int = 0) -> Delay:
    """A delay with room for one step more, as comparisons of a step up and down need it, and for the `longest` it grows to."""
    return Delay(jnp.asarray(steps, jnp.int32), max(steps + 1, longest), growth)
