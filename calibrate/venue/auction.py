"""The auction of positions that nobody has to take: the price starts out of reach and falls until someone takes it.

A position that is called is closed neither in the market nor at a fixed discount. It is offered at a price that starts at a
multiple of the oracle price and falls, in stairs or along a line, until it is worth taking; whoever takes it sells it in the
market. An offer that has lasted too long, or fallen too far, starts anew at the oracle price of that moment. What may be on offer
at one time may be limited. `docs/rules.md`, section 9, states the rules; sources: makerdao/dss `clip.sol` and `abaci.sol`
(stairs, reset by `tail` and `cusp`, `hole`), derivexyz/v2-core `DutchAuction.sol` (lines).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from calibrate.units import Index, Scalar


class Auction(eqx.Module):
    """`multiples` are what is asked for a long position at each age of its offer in steps, as logarithms of the price over that of
    the oracle at its start (for a short the same below it); after the last an offer starts anew. `most` is what may be on offer
    at one time, as a share of open interest at the market price (None: everything). Offers of `width` successive steps are followed
    as one."""

    multiples: Float[Array, " age"]
    most: Scalar | None = None
    width: int = eqx.field(static=True, default=1)

    @property
    def longest(self) -> int:
        """After how many steps an offer starts anew."""
        return self.multiples.shape[0]

    @property
    def places(self) -> int:
        """How many places there are for offers. On average one starts anew when it is due, those of a place together."""
        return -(-self.longest // self.width)

    def place(self, index: Index) -> Index:
        """Where offers go that start at a step."""
        return index // self.width % self.places

    def since(self, index: Index) -> Int[Array, " place"]:
        """The steps since the first that each place's offers may have started at."""
        return (index - self.width * jnp.arange(self.places)) % (self.places * self.width)

    def over(self, age: Int[Array, "..."]) -> Float[Array, "..."]:
        """The logarithm of the multiple at an age; after the last of an auction its price stands."""
        return self.multiples[jnp.clip(age, 0, self.longest - 1)]


def stairs(seconds: np.ndarray, *, start: float, fall: float, every_s: float) -> np.ndarray:
    """Multiples of the oracle price: `start`, and every so often a part `fall` less."""
    # A stair that ends with a step of the simulation must not be missed by a rounding error.
    return start * (1.0 - fall) ** np.floor(seconds / every_s + 1e-9)


def line(seconds: np.ndarray, *, start: float, zero_after_s: float) -> np.ndarray:
    """Multiples of the oracle price: from `start` evenly down to nothing."""
    return start * np.maximum(1.0 - seconds / zero_after_s, 0.0)


def until_reset(multiples: np.ndarray, seconds: np.ndarray, *, after_s: float, below: float) -> np.ndarray:
    """The multiples up to where an offer starts anew: after so long, or below that part of its start. There is one at least."""
    over = (seconds > after_s) | (multiples < below * multiples[0])
    return multiples[: max(int(np.argmax(over)), 1)] if over.any() else multiples
