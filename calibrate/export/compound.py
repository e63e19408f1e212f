"""Compound v3 (Comet): the collateral factors of one asset.

64-bit fractions of 1e18 that the contract keeps to four decimals (`CometConfiguration.sol`). Borrowing must stop strictly below
liquidation; that the liquidation factor lies above the liquidation threshold, so that no absorption starts with a loss, is our own
rule.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE, bps_left, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, percent, same

_STORED = 10**14  # one basis point of 1e18


class CollateralAsset(Native):
    """Basis points, as stored. `comet`, `configurator` and `asset` are addresses, or names where they are not known."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "keeper_share": "buyers of absorbed collateral get storeFrontPriceFactor of the penalty; it belongs to the whole market",
    }

    asset: str
    comet: str
    borrow_collateral_factor_bps: int = Field(ge=0, lt=WHOLE)
    liquidate_collateral_factor_bps: int = Field(gt=0, lt=WHOLE)
    liquidation_factor_bps: int = Field(gt=0, le=WHOLE)
    store_front_price_factor_bps: int = Field(ge=0, le=WHOLE)

    def rules(self) -> Iterator[Rule]:
        borrow, liquidate = self.borrow_collateral_factor_bps, self.liquidate_collateral_factor_bps
        yield Rule(
            borrow < liquidate, f"borrowCollateralFactor < liquidateCollateralFactor (found {borrow}, {liquidate} bps)"
        )
        factor = self.liquidation_factor_bps
        yield Rule(
            liquidate < factor,
            f"liquidateCollateralFactor < liquidationFactor, or every absorption leaves bad debt (found {liquidate}, {factor} bps)",
        )

    def policy(self) -> dict[str, float]:
        factors = self.borrow_collateral_factor_bps, self.liquidate_collateral_factor_bps
        borrow, liquidate = (factor * BPS for factor in factors)
        # The absorbed collateral is credited at the liquidation factor: the penalty is on its value, not on the debt.
        limits = margins(borrow, liquidate, 1 - self.liquidation_factor_bps * BPS)
        return lending_policy(limits, self.store_front_price_factor_bps * BPS)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own = margins_of(policy), margins_of(self.policy())
        liquidate = bps_left(asked.maintenance, self.liquidate_collateral_factor_bps, up=safely)
        factor = self.liquidation_factor_bps
        if not same(asked.penalty, own.penalty):
            factor = bps_left(asked.penalty, factor, up=True)
        borrow = bps_left(asked.initial, self.borrow_collateral_factor_bps, up=safely)
        return self.but(
            borrow_collateral_factor_bps=max(min(borrow, liquidate - 1), 0),
            liquidate_collateral_factor_bps=liquidate,
            liquidation_factor_bps=max(factor, liquidate + 1),
        )

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        calls = {
            "updateAssetBorrowCollateralFactor": "borrow_collateral_factor_bps",
            "updateAssetLiquidateCollateralFactor": "liquidate_collateral_factor_bps",
            "updateAssetLiquidationFactor": "liquidation_factor_bps",
        }
        actions = [
            {
                "contract": "configurator",
                "signature": f"{name}(address,address,uint64)",
                "args": [self.comet, self.asset, str(getattr(self, field) * _STORED)],
            }
            for name, field in calls.items()
            if getattr(self, field) != getattr(before, field)
        ]
        deploy = {
            "contract": "cometAdmin",
            "signature": "deployAndUpgradeTo(address,address)",
            "args": ["configurator", self.comet],
        }
        return {"actions.json": [*actions, deploy]}

    def worked(self) -> list[tuple[str, str]]:
        buffer = Fraction(self.liquidation_factor_bps, self.liquidate_collateral_factor_bps) - 1
        discount = self.store_front_price_factor_bps * BPS * (1 - self.liquidation_factor_bps * BPS)
        return [
            ("buffer between absorption and loss (liquidationFactor / liquidateCollateralFactor - 1)", percent(buffer)),
            ("discount at which absorbed collateral is sold", percent(discount)),
        ]
