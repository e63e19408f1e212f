"""The largest rise of the margin within a window that slides along a path, from the lowest values of blocks of steps.

A window is cut into blocks (`rise_windows.py`). Kept are the lowest requirement of each whole block that the window may reach
into, and of the block that is under way; the lowest of the former changes only where a block begins. So a step costs three
comparisons, whatever the length of the window, and a path keeps `blocks + 3` numbers, all but three of which are looked at only
where a block begins.

The window so made begins where a block begins: it is never shorter than asked for and never longer than `Window.longest` steps.
The largest rise within it therefore lies between those within the shortest and the longest of these: it errs to the safe side, by
what the requirement rises in less than a twelfth of the window (a twenty-fourth, where that is a whole number of steps). Where a
window has no more than `BLOCKS` steps it is exact.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.extremes import larger, smaller
from calibrate.rise_windows import Window
from calibrate.units import Index, PerPath


class Rise(NamedTuple):
    """The lowest requirement of each of the last blocks, in a ring; the lowest in the whole blocks of the window, and in the
    block that is under way; and the largest rise so far."""

    ring: Float[Array, "block path"]
    whole: PerPath
    current: PerPath
    largest: PerPath


def start_rise(window: Window, like: PerPath) -> Rise:
    huge = jnp.full_like(like, 1e9)
    return Rise(jnp.broadcast_to(huge, (window.blocks, *like.shape)), huge, huge, jnp.zeros_like(like))


def risen(rise: Rise, window: Window, required: PerPath, index: Index) -> Rise:
    """Enter the requirement of a step, counted from 0."""

    def next_block() -> tuple[Array, PerPath, PerPath]:
        ring = lax.dynamic_update_index_in_dim(
            rise.ring, rise.current, (index // window.block - 1) % window.blocks, axis=0
        )
        return ring, jnp.min(ring, axis=0), required

    def same_block() -> tuple[Array, PerPath, PerPath]:
        return rise.ring, rise.whole, smaller(rise.current, required)

    # All paths begin a block at once. Elsewhere the ring is not touched, and so not copied.
    ring, whole, current = lax.cond(index % window.block == 0, next_block, same_block)
    return Rise(ring, whole, current, larger(rise.largest, required - smaller(whole, current)))
