"""What is asked for, and what there is room for."""

import jax.numpy as jnp

from calibrate.compiled import with_slopes
from calibrate.units import PerPath


@with_slopes
def part_of(room: PerPath, asked: PerPath) -> PerPath:
    """The part of what is asked for that there is room for."""
    short = asked > room
    return jnp.where(short, room / jnp.where(short, asked, 1.0), 1.0)
