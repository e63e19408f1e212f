"""Euler v2: the loan-to-value limits of one collateral in a vault, and the largest liquidation discount.

Units and the ramp as in `Governance.sol` and `LTVConfig.sol` of the Euler vault kit: a liquidation limit that is lowered may come
down linearly, one that is raised applies at once.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE, bps_left, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, decimal, kept, percent


class VaultCollateral(Native):
    """Basis points; `ramp_duration_s` is how long a lowered liquidation limit takes to come down, chosen with the change."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "keeper_share": "the liquidator gets the whole discount; leave this at 1",
    }

    collateral: str
    borrow_ltv_bps: int = Field(ge=0, le=WHOLE)
    liquidation_ltv_bps: int = Field(gt=0, lt=WHOLE)
    max_liquidation_discount_bps: int = Field(ge=0)
    ramp_duration_s: int = Field(ge=0, lt=2**32)

    def rules(self) -> Iterator[Rule]:
        borrow, liquidation = self.borrow_ltv_bps, self.liquidation_ltv_bps
        yield Rule(borrow <= liquidation, f"borrowLTV <= liquidationLTV (found {borrow} and {liquidation} bps)")
        discount = self.max_liquidation_discount_bps
        yield Rule(discount < WHOLE, f"maxLiquidationDiscount < 10,000 bps (found {discount})")

    def policy(self) -> dict[str, float]:
        ltvs = self.borrow_ltv_bps * BPS, self.liquidation_ltv_bps * BPS
        # The discount is on the collateral that a liquidator takes.
        return lending_policy(margins(*ltvs, self.max_liquidation_discount_bps * BPS), Fraction(1))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked = margins_of(policy)
        liquidation = bps_left(asked.maintenance, self.liquidation_ltv_bps, up=safely)
        borrow = bps_left(asked.initial, self.borrow_ltv_bps, up=safely)
        discount = kept(asked.penalty, self.max_liquidation_discount_bps, BPS, up=True)
        return self.but(
            borrow_ltv_bps=max(min(borrow, liquidation), 0),
            liquidation_ltv_bps=liquidation,
            max_liquidation_discount_bps=discount,
        )

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        lowered = self.liquidation_ltv_bps < before.liquidation_ltv_bps
        ltvs = [self.borrow_ltv_bps, self.liquidation_ltv_bps]
        calls = []
        if ltvs != [before.borrow_ltv_bps, before.liquidation_ltv_bps]:
            ramp = self.ramp_duration_s if lowered else 0
            calls.append({"call": "setLTV(address,uint16,uint16,uint32)", "args": [self.collateral, *ltvs, ramp]})
        if self.max_liquidation_discount_bps != before.max_liquidation_discount_bps:
            argument = [self.max_liquidation_discount_bps]
            calls.append({"call": "setMaxLiquidationDiscount(uint16)", "args": argument})
        return {"vault_calls.json": calls}

    def simulated(self) -> dict[str, Any]:
        """The discount is 1 less health, whatever its maximum is (`Liquidation.sol`)."""
        if self.max_liquidation_discount_bps == 0:
            return {}
        return {"incentive": {"bonus": {"lowest_part": 0.0, "health": "lending", "rise_per_health": 1.0}}}

    def worked(self) -> list[tuple[str, str]]:
        health = 1 - self.max_liquidation_discount_bps * BPS
        return [
            ("health at which the discount is largest", decimal(health)),
            (
                "of the collateral left there when all debt is repaid",
                percent(1 - self.liquidation_ltv_bps * BPS / health**2),
            ),
        ]
