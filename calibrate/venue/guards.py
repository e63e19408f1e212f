"""When a venue does not trust its oracle: guards that hold liquidations back.

A price is stale when its report is older than the venue allows. Then either nobody is liquidated, or accounts are judged at the
market's price instead. A circuit breaker holds liquidations back while oracle and market are too far apart.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class Guards(eqx.Module):
    """What is seen is stale when its report is more than `stale_after` steps old; `falls_back` says that the market's price is
    used then. `widest` is how far oracle and market may be apart (in logs)."""

    stale_after: Index | None = None
    widest: Scalar | None = None
    falls_back: bool = eqx.field(static=True, default=False)

    def stale(self, index: Index, made: IndexPerPath | None) -> Bool[Array, " path"] | None:
        if self.stale_after is None or made is None:
            return None
        return index - made > self.stale_after

    def apart(self, seen: PerPath, market: PerPath) -> Bool[Array, " path"] | None:
        return None if self.widest is None else jnp.abs(seen - market) > self.widest
