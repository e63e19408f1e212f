"""When a venue does not trust its oracle: guards that hold liquidations back.

A price is stale when its report is older than the venue allows. Then either nobody is liquidated, or accounts are judged at the
market's price instead. Circuit breakers hold liquidations back while oracle and market are too far apart, or the oracle is too
far from what it has been on average (Drift v2, `is_oracle_too_divergent_with_twap_5min`).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class OwnAverage(eqx.Module):
    """Nobody is liquidated while the oracle's price is the part `widest` or more of its average away from that. Every step the
    average takes over the part `weight` of what is new, after it has been compared: it is what the price has been."""

    widest: Scalar
    weight: Scalar

    def step(self, before: PerPath, seen: PerPath) -> tuple[PerPath, Bool[Array, " path"]]:
        """The average with this step's price in it, and whether that is too far from what the average was (logs)."""
        return before + self.weight * (seen - before), jnp.abs(jnp.expm1(seen - before)) >= self.widest


class Guards(eqx.Module):
    """What is seen is stale when its report is more than `stale_after` steps old; `falls_back` says that the market's price is
    used then. `widest` is how far oracle and market may be apart (in logs), `own_average` how far the oracle may be from what it
    was."""

    stale_after: Index | None = None
    widest: Scalar | None = None
    falls_back: bool = eqx.field(static=True, default=False)
    own_average: OwnAverage | None = None

    def stale(self, index: Index, made: IndexPerPath | None) -> Bool[Array, " path"] | None:
        if self.stale_after is None or made is None:
            return None
        return index - made > self.stale_after

    def apart(self, seen: PerPath, market: PerPath) -> Bool[Array, " path"] | None:
        return None if self.widest is None else jnp.abs(seen - market) > self.widest
