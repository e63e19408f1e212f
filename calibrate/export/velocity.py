"""Velocity (the successor of Drift v2): margin ratios, liquidation fees and the instructions that set them.

Units and bounds as in `validation/margin.rs` and `math/margin.rs` of drift-labs/protocol-v2, whose rules the successor took over.
Every instruction sets one group of fields and is checked by itself, so they are written in an order in which every state is legal.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.native import Basis, Native, Rule, in_bps, kept, policy_of_one_number, share
from calibrate.export.steps import in_legal_order

_RATIO = Fraction(1, 10_000)
_FEE = Fraction(1, 1_000_000)
_INSTRUCTIONS: dict[tuple[str, ...], str] = {
    ("margin_ratio_initial", "margin_ratio_maintenance"): "update_perp_market_margin_ratio",
    ("high_leverage_margin_ratio_initial", "high_leverage_margin_ratio_maintenance"): (
        "update_perp_market_high_leverage_margin_ratio"
    ),
    ("imf_factor", "unrealized_pnl_imf_factor"): "update_perp_market_imf_factor",
    ("liquidator_fee", "if_liquidation_fee"): "update_perp_market_liquidation_fee",
}


class PerpMarket(Native):
    """Margin ratios in units of 1e-4, fees and factors of 1e-6. High-leverage ratios are both 0 where there is no such mode;
    `max_spread` (1e-6) is the market maker's, 0 where not known. A base unit is worth `reference_price_usd`, which takes the growth
    of ratios with size into the simulation."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps", "keeper_share")

    market_index: int = Field(ge=0, lt=2**16)
    margin_ratio_initial: int = Field(ge=0, lt=2**32)
    margin_ratio_maintenance: int = Field(ge=0, lt=2**32)
    high_leverage_margin_ratio_initial: int = Field(default=0, ge=0, lt=2**16)
    high_leverage_margin_ratio_maintenance: int = Field(default=0, ge=0, lt=2**16)
    imf_factor: int = Field(default=0, ge=0, lt=2**32)
    unrealized_pnl_imf_factor: int = Field(default=0, ge=0, lt=2**32)
    liquidator_fee: int = Field(ge=0, lt=2**32)
    if_liquidation_fee: int = Field(ge=0, lt=2**32)
    max_spread: int = Field(default=0, ge=0, lt=2**32)
    reference_price_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def rules(self) -> Iterator[Rule]:
        initial, maintenance = self.margin_ratio_initial, self.margin_ratio_maintenance
        found = f"(found {maintenance} and {initial})"
        yield Rule(125 <= maintenance < initial <= 10_000, f"125 <= maintenance < initial <= 10,000 {found}")
        liquidator = self.liquidator_fee
        yield Rule(
            maintenance * 100 > liquidator, f"maintenance x 100 > liquidator_fee (found {maintenance}, {liquidator})"
        )
        yield Rule(initial * 100 > self.max_spread, f"initial x 100 > max_spread (found {initial}, {self.max_spread})")
        yield Rule(liquidator + self.if_liquidation_fee < 1_000_000, "liquidator_fee + if_liquidation_fee < 1,000,000")
        high, low = self.high_leverage_margin_ratio_initial, self.high_leverage_margin_ratio_maintenance
        absent = high == low == 0
        ordered = 50 <= low < high and high < initial and low < maintenance
        yield Rule(
            absent or ordered, "high-leverage ratios: both 0, or 50 <= maintenance < initial, each below the normal one"
        )
        factors = max(self.imf_factor, self.unrealized_pnl_imf_factor)
        yield Rule(factors <= 1_000_000, "imf factors <= 1,000,000")

    def policy(self) -> dict[str, float]:
        fees = self.liquidator_fee + self.if_liquidation_fee
        ratio = Fraction(self.margin_ratio_initial, self.margin_ratio_maintenance)
        keepers = Fraction(self.liquidator_fee, fees) if fees else 0.0
        return policy_of_one_number(self.margin_ratio_maintenance * _RATIO, ratio, fees * _FEE, keepers)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        margin, penalty = share(policy["base_margin_bps"]), share(policy["penalty_bps"])
        maintenance = kept(margin, self.margin_ratio_maintenance, _RATIO, up=safely)
        initial = kept(margin * Fraction(policy["initial_ratio"]), self.margin_ratio_initial, _RATIO, up=safely)
        liquidator = kept(penalty * Fraction(policy["keeper_share"]), self.liquidator_fee, _FEE, up=True)
        liquidator = max(min(liquidator, 100 * maintenance - 1), 0)
        fees = kept(penalty, self.liquidator_fee + self.if_liquidation_fee, _FEE, up=True)
        return self.but(
            margin_ratio_initial=max(initial, maintenance + 1),
            margin_ratio_maintenance=maintenance,
            liquidator_fee=liquidator,
            if_liquidation_fee=max(fees - liquidator, 0),
        )

    def orders(self) -> tuple[tuple[str, ...], ...]:
        return tuple(_INSTRUCTIONS)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        instructions = [
            {
                "instruction": _INSTRUCTIONS[transaction.fields],
                "market_index": self.market_index,
                "args": {field: getattr(self, field) for field in transaction.fields},
            }
            for transaction in in_legal_order(before, self)
        ]
        return {"instructions.json": instructions}

    def worked(self) -> list[tuple[str, str]]:
        return [
            (f"ratio of a position of {size:,} units: initial, maintenance", f"{initial}, {maintenance}")
            for size in (10, 100, 1_000)
            for initial, maintenance in [
                (
                    self.ratio_of_size(self.margin_ratio_initial, size),
                    self.ratio_of_size(self.margin_ratio_maintenance, size),
                )
            ]
        ]

    def simulated(self) -> dict[str, Any]:
        if not self.imf_factor or self.reference_price_usd is None:
            return {}
        # max(ratio, 0.8 ratio + imf sqrt(base units)).
        added = {"add_on_bps": in_bps(self.imf_factor * _FEE), "at_usd": self.reference_price_usd, "exponent": 0.5}
        return {"size_add_on": {**added, "floor_part": 0.8}}

    def ratio_of_size(self, ratio: int, units: int) -> int:
        """A margin ratio with what the size of a position (base units) adds to it (`math/margin.rs`)."""
        size = units * 10**9
        added = math.isqrt(10 * size + 1) * self.imf_factor // 10**7
        return max(ratio, ratio - ratio // 5 + added)
