"""GMX v2: collateral factors and the liquidation fee of one market.

Factors are fractions of 1e30; bounds as in `ConfigUtils.sol`. Every key is set by itself, so they are ordered; that opening asks
for no less than staying open is our own rule. New values are whole millionths, since `config/markets.ts` writes percentages.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from calibrate.export.native import Basis, Native, Rule, decimal, percent, policy_of_one_number, same, share, whole
from calibrate.export.steps import in_legal_order

_UNIT = 10**30
_GRID = Fraction(1, 1_000_000)
Factor = Annotated[int, Field(ge=0, lt=2**256)]
_KEYS = {
    "min_collateral_factor_e30": ("MIN_COLLATERAL_FACTOR", "minCollateralFactor"),
    "min_collateral_factor_for_liquidation_e30": (
        "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION",
        "minCollateralFactorForLiquidation",
    ),
    "liquidation_fee_factor_e30": ("LIQUIDATION_FEE_FACTOR", "liquidationFeeFactor"),
}


class MarketFactors(Native):
    """Fractions of 1e30, but `impact_exponent`. `market` is the market token's address, or its name where that is not known;
    `fee_receiver_factor_e30` is the share of the liquidation fee that does not stay in the pool."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "keeper_share": "the fee receiver's share of the liquidation fee is set for the whole exchange",
    }

    market: str
    min_collateral_factor_e30: Factor
    min_collateral_factor_for_liquidation_e30: Factor
    min_collateral_factor_for_open_interest_multiplier_e30: Factor = 0
    liquidation_fee_factor_e30: Factor
    fee_receiver_factor_e30: Factor
    negative_impact_factor_e30: Factor
    impact_exponent: float = Field(gt=0, le=3)

    def rules(self) -> Iterator[Rule]:
        opening, staying = self.min_collateral_factor_e30, self.min_collateral_factor_for_liquidation_e30
        yield Rule(opening * 20 <= _UNIT, f"MIN_COLLATERAL_FACTOR <= 5 % (found {self._in_percent(opening)})")
        yield Rule(
            staying > 0 and staying * 100 <= _UNIT,
            f"0 < MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION <= 1 % (found {self._in_percent(staying)})",
        )
        yield Rule(staying <= opening, "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION <= MIN_COLLATERAL_FACTOR")
        fee = self.liquidation_fee_factor_e30
        yield Rule(fee * 100 <= _UNIT, f"LIQUIDATION_FEE_FACTOR <= 1 % (found {self._in_percent(fee)})")
        yield Rule(self.fee_receiver_factor_e30 <= _UNIT, "the fee receiver's factor <= 100 %")

    def policy(self) -> dict[str, float]:
        opening, staying = self.min_collateral_factor_e30, self.min_collateral_factor_for_liquidation_e30
        margin, fee, receivers = (
            Fraction(factor, _UNIT)
            for factor in (staying, self.liquidation_fee_factor_e30, self.fee_receiver_factor_e30)
        )
        return policy_of_one_number(margin, Fraction(opening, staying), fee, receivers)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        margin = share(policy["base_margin_bps"])
        staying = _on_grid(margin, self.min_collateral_factor_for_liquidation_e30, up=safely)
        opening = margin * Fraction(policy["initial_ratio"])
        fee = _on_grid(share(policy["penalty_bps"]), self.liquidation_fee_factor_e30, up=True)
        return self.but(
            min_collateral_factor_e30=max(_on_grid(opening, self.min_collateral_factor_e30, up=safely), staying),
            min_collateral_factor_for_liquidation_e30=staying,
            liquidation_fee_factor_e30=fee,
        )

    def orders(self) -> tuple[tuple[str, ...], ...]:
        return tuple((field,) for field in _KEYS)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        changed = [transaction.fields[0] for transaction in in_legal_order(before, self)]
        calls = [
            {
                "call": "Config.setUint(bytes32,bytes,uint256)",
                "baseKey": _KEYS[field][0],
                "data": {"abi.encode": [self.market]},
                "value": str(getattr(self, field)),
            }
            for field in changed
        ]
        edits = {_KEYS[field][1]: self._in_percent(getattr(self, field)) for field in changed}
        return {"calls.json": calls, "markets_ts_edits.json": {self.market: edits}}

    def worked(self) -> list[tuple[str, str]]:
        shown = [("impact of 10,000,000 USD of new imbalance (USD)", decimal(self.price_impact(0, 10_000_000), 2))]
        multiplier = self.min_collateral_factor_for_open_interest_multiplier_e30
        if multiplier:
            bites = Fraction(self.min_collateral_factor_e30, multiplier)
            shown.append(("open interest of a side above which opening asks for more (USD)", decimal(bites, 0)))
        return shown

    def simulated(self) -> dict[str, Any]:
        multiplier = self.min_collateral_factor_for_open_interest_multiplier_e30
        if not multiplier:
            return {}
        # A side's open interest times the multiplier, from where that is the factor up to all of the notional. Two sides are alike.
        bites, all_of_it = Fraction(self.min_collateral_factor_e30, multiplier), Fraction(_UNIT, multiplier)
        return {"open_interest_add_on": {"lower_usd": float(2 * bites), "upper_usd": float(2 * all_of_it)}}

    # --- formulas of the exchange ---

    def price_impact(self, before: int, after: int) -> Fraction:
        """What a change of the imbalance costs (USD), at the factor of a worsening one."""
        moved = Fraction(float(after) ** self.impact_exponent) - Fraction(float(before) ** self.impact_exponent)
        return moved * Fraction(self.negative_impact_factor_e30, _UNIT)

    @staticmethod
    def _in_percent(factor: int) -> str:
        return percent(Fraction(factor, _UNIT)).replace(" ", "")


def _on_grid(asked: Fraction, before: int, *, up: bool) -> int:
    """As before where that is the same, else a whole number of millionths."""
    if same(Fraction(before, _UNIT), asked):
        return before
    return int(whole(asked / _GRID, up=up) * _GRID * _UNIT)
