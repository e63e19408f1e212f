"""Bybit linear perpetuals: risk limits, in the shape in which the exchange publishes them (`/v5/market/risk-limit`).

The table is that of brackets; `riskLimitValue` is a tier's upper bound, and `mmDeduction` its cumulative amount.
"""

from typing import Any, Self

from calibrate.export.binance import BracketTable
from calibrate.export.native import Basis


class RiskLimits(BracketTable):
    """Brackets under the exchange's own names: tiers."""

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        tiers = zip(self.brackets, self.cumulative_amounts(), strict=True)
        rows = [
            {
                "id": i + 1,
                "symbol": self.symbol,
                "riskLimitValue": str(tier.notional_cap),
                "maintenanceMargin": f"{tier.maint_margin_ratio_bps / 10_000:g}",
                "initialMargin": f"{1 / tier.initial_leverage:.6g}",
                "isLowestRisk": int(i == 0),
                "maxLeverage": f"{tier.initial_leverage:.2f}",
                "mmDeduction": f"{float(deduction):.10g}",
            }
            for i, (tier, deduction) in enumerate(tiers)
        ]
        return {"risk_limits.json": {"category": "linear", "list": rows}}
