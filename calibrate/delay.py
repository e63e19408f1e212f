"""A delay line: what was written some steps ago is read today.

The line is a ring with room for the longest delay; the delay itself is data, so that it can change without a new program.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.units import Index


class Delay(eqx.Module):
    """A delay of `steps` steps, at most `longest`."""

    steps: Index
    longest: int = eqx.field(static=True)

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


def delay_of(steps: int) -> Delay:
    """A delay with room for one step more, as comparisons of a step up and down need it."""
    return Delay(jnp.asarray(steps, jnp.int32), steps + 1)
