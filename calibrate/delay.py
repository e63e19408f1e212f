"""A delay line: what was written some steps ago is read today.

The line is a ring with room for the longest delay; the delay itself is data, so that it can change without a new program.
A delay may grow with volatility (`growth`) and in a crash (`in_crash`): then each path has its own place in the line, which never
moves backwards, since what has been read once is not followed by anything older.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class Delay(eqx.Module):
    """A delay of `steps` steps, at most `longest`. With `growth` that is the delay at median volatility, and it changes with
    this power of volatility. In a crash it is `in_crash` steps more."""

    steps: Index
    longest: int = eqx.field(static=True)
    growth: Scalar | None = None
    in_crash: Index | None = None

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
        alike = self.growth is None and self.in_crash is None
        return None if alike else jnp.full(like.shape, -self.longest, self.steps.dtype)

    def through_at_own_pace(
        self,
        line: Float[Array, "length path"],
        place: IndexPerPath,
        step: Index,
        value: PerPath,
        log_volatility: PerPath,
        crash: Bool[Array, " path"] | None = None,
    ) -> tuple[Float[Array, "length path"], IndexPerPath, PerPath]:
        """Write today's value and read what the delay at today's volatility (relative to its median) has let through."""
        length = self.longest + 1
        line = lax.dynamic_update_index_in_dim(line, value, step % length, 0)
        steps, more = self.steps, 0 if self.in_crash is None else self.in_crash
        if self.growth is not None:
            steps = jnp.minimum(jnp.floor(steps * jnp.exp(self.growth * log_volatility) + 0.5), self.longest - more)
        if crash is not None:
            steps = steps + jnp.where(crash, more, 0)
        place = jnp.maximum(place, (step - steps.astype(step.dtype)).astype(place.dtype))
        return line, place, jnp.take_along_axis(line, (place % length)[None], axis=0)[0]


def delay_of(steps: int, *, growth: Scalar | None = None, longest: int = 0, in_crash: int = 0) -> Delay:
    """A delay with room for one step more, as comparisons of a step up and down need it, for the `longest` it grows to, and for
    what a crash adds."""
    more = jnp.asarray(in_crash, jnp.int32) if in_crash else None
    return Delay(jnp.asarray(steps, jnp.int32), max(steps + 1, longest) + in_crash, growth, more)
