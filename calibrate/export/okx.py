"""OKX perpetual swaps: position tiers, in the shape in which the exchange publishes them (`/api/v5/public/position-tiers`).

The exchange bounds tiers in contracts, which are written for a contract's worth; it publishes no deduction.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self

from pydantic import Field

from calibrate.export.binance import BracketTable
from calibrate.export.native import Basis, Rule, percent
from calibrate.export.tiers import rises


class PositionTiers(BracketTable):
    """Brackets in USD under the exchange's own names; `contract_usd` is what one contract is worth."""

    contract_usd: int = Field(gt=0)

    def rules(self) -> Iterator[Rule]:
        yield from super().rules()
        bounds = self._bounds
        yield Rule(rises(bounds, strictly=True), f"every tier holds at least one contract (found bounds of {bounds})")

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        bounds = self._bounds
        rows = [
            {
                "instId": self.symbol,
                "tier": str(i + 1),
                "minSz": str(bounds[i]),
                "maxSz": str(bounds[i + 1]),
                "mmr": f"{tier.maint_margin_ratio_bps / 10_000:g}",
                "imr": f"{float(Fraction(1, tier.initial_leverage)):.6g}",
                "maxLever": str(tier.initial_leverage),
            }
            for i, tier in enumerate(self.brackets)
        ]
        return {"position_tiers.json": rows}

    def worked(self) -> list[tuple[str, str]]:
        tiers = zip(self.brackets, self._bounds[1:], self._rates, strict=True)
        return [
            (f"tier {n}: {tier.initial_leverage}x up to {most:,} contracts, all of the position at", percent(rate))
            for n, (tier, most, rate) in enumerate(tiers, start=1)
        ]

    @property
    def _bounds(self) -> list[int]:
        return [0, *(tier.notional_cap // self.contract_usd for tier in self.brackets)]
