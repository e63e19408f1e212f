"""crvUSD and LlamaLend: a market's bands and discounts.

Parameters and bounds as in `controller.vy` and `AMM.vy` of curve-stablecoin. Between borrowing and liquidation the collateral is
converted band by band; a loan is judged here by what it is worth above its bands.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, percent, same, whole


class Controller(Native):
    """`a` is the amplification, whose bands are 1 / a wide, and `bands` how many of them a loan takes; discounts are on what a loan
    is worth once its collateral has been converted, in basis points."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio")
    tied: ClassVar[dict[str, str]] = {
        "penalty_bps": "a liquidator takes what the liquidation discount leaves of the collateral",
        "keeper_share": "the liquidator gets all of it; leave this at 1",
    }

    market: str
    a: int = Field(ge=2, le=10_000)
    bands: int = Field(ge=4, le=50)
    loan_discount_bps: int
    liquidation_discount_bps: int

    def rules(self) -> Iterator[Rule]:
        loan, liquidation = self.loan_discount_bps, self.liquidation_discount_bps
        yield Rule(
            100 <= liquidation < loan <= 5_000,
            f"1 % <= liquidation discount < loan discount <= 50 % (found {liquidation} and {loan} bps)",
        )

    def policy(self) -> dict[str, float]:
        limits = [1 - discount * BPS for discount in (self.loan_discount_bps, self.liquidation_discount_bps)]
        borrow, liquidation = (limit * self.kept_through_bands() for limit in limits)
        return lending_policy(margins(borrow, liquidation, self.liquidation_discount_bps * BPS), Fraction(1))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own, through = margins_of(policy), margins_of(self.policy()), self.kept_through_bands()
        loan, liquidation = self.loan_discount_bps, self.liquidation_discount_bps
        if not same(asked.initial, own.initial):
            loan = whole((1 - (1 - asked.initial) / through) / BPS, up=safely)
        if not same(asked.maintenance, own.maintenance):
            liquidation = whole((1 - asked.liquidation / through) / BPS, up=safely)
        return self.but(loan_discount_bps=max(loan, liquidation + 1), liquidation_discount_bps=liquidation)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        arguments = [str(discount * 10**14) for discount in (self.loan_discount_bps, self.liquidation_discount_bps)]
        call = {"call": "set_borrowing_discounts(uint256,uint256)", "market": self.market, "args": arguments}
        return {"discounts.json": call}

    def worked(self) -> list[tuple[str, str]]:
        through = self.kept_through_bands()
        return [
            ("a loan's bands reach down over", percent(1 - (1 - Fraction(1, self.a)) ** self.bands)),
            ("of the highest price, what collateral sold evenly over them brings", percent(through)),
            ("highest debt over collateral", percent((1 - self.loan_discount_bps * BPS) * through)),
        ]

    # --- formulas of the venue ---

    def kept_through_bands(self) -> Fraction:
        """What collateral brings that is sold in equal parts at the middle (geometric mean) of each band, the highest price being
        1: `sum_n sqrt((A - 1) / A) ((A - 1) / A)^n / N` (`get_y_effective` of `controller.vy`)."""
        ratio = Fraction(self.a - 1, self.a)
        middle = Fraction(float(ratio) ** 0.5).limit_denominator(WHOLE**2)
        return middle * sum(ratio**n for n in range(self.bands)) / self.bands
