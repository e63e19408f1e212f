"""Mark prices: what venues judge accounts by, so that neither a late oracle nor a pushed market alone decides.

A mark price is the median of some of these: the oracle's price; the oracle's price plus an average of how far the market has been
from it; the market's own price; and what the oracle's sources say at this moment. Hyperliquid takes the median of the last three,
Binance that of the first three; `docs/rules.md`, section 10.
"""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp

from calibrate.sources import weighted_median
from calibrate.units import PerPath, Scalar

Part = Literal["oracle", "oracle-and-basis", "market", "sources"]


class Mark(eqx.Module):
    """The median of `parts`, in logs. Every step the average basis takes over the part `weight` of what is new."""

    weight: Scalar
    parts: tuple[Part, ...] = eqx.field(static=True)

    def basis(self, before: PerPath, oracle: PerPath, market: PerPath) -> PerPath:
        """How far the market has been from the oracle, on average."""
        return before + self.weight * (market - oracle - before)

    def price(self, oracle: PerPath, basis: PerPath, market: PerPath, sources: PerPath | None) -> PerPath:
        known = {"oracle": oracle, "oracle-and-basis": oracle + basis, "market": market}
        if sources is not None:
            known["sources"] = sources
        values = jnp.stack([known[part] for part in self.parts])
        return weighted_median(values, jnp.ones_like(values))
