"""Morpho Blue: which liquidation loan-to-value a market has. Nothing about a market can change once it exists.

So a calibration chooses from the list that the owner has enabled, and a curator moves vault caps from one market to another. The
liquidation incentive is a function of the loan-to-value (`ConstantsLib.sol`), with the contract's own rounding.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from calibrate.export.lending import BPS, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, decimal, percent, same

_WAD = 10**18
_STORED = 10**14  # one basis point of 1e18
LIQUIDATION_CURSOR = 3 * 10**17
MAX_INCENTIVE_FACTOR = 115 * 10**16


class Market(Native):
    """`lltv_bps` is one of `enabled_lltv_bps`. Tokens, oracle and interest model are addresses, or names where not known;
    a loan token is worth `loan_token_usd`."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps",)
    tied: ClassVar[dict[str, str]] = {
        "initial_ratio": "one loan-to-value limits borrowing and liquidation alike; leave this at 1",
        "penalty_bps": "the liquidation incentive is a function of the loan-to-value; leave it out",
        "keeper_share": "the liquidator gets the whole incentive; leave this at 1",
    }

    loan_token: str
    collateral_token: str
    oracle: str
    irm: str
    loan_token_decimals: int = Field(ge=0, le=36)
    loan_token_usd: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    lltv_bps: int
    enabled_lltv_bps: Annotated[tuple[int, ...], BeforeValidator(tuple)]

    def rules(self) -> Iterator[Rule]:
        listed = ", ".join(percent(lltv * BPS) for lltv in self.enabled_lltv_bps)
        found = percent(self.lltv_bps * BPS)
        yield Rule(self.lltv_bps in self.enabled_lltv_bps, f"LLTV is one that is enabled: {listed} (found {found})")
        yield Rule(all(0 < lltv < 10_000 for lltv in self.enabled_lltv_bps), "0 < LLTV < 100 %")

    def policy(self) -> dict[str, float]:
        lltv = self.lltv_bps * BPS
        return lending_policy(margins(lltv, lltv, (self.incentive_factor() - 1) * lltv), Fraction(1))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked = margins_of(policy).liquidation
        near = [lltv for lltv in self.enabled_lltv_bps if same(1 - lltv * BPS, 1 - asked)]
        below = [lltv for lltv in self.enabled_lltv_bps if lltv * BPS <= asked]
        above = [lltv for lltv in self.enabled_lltv_bps if lltv * BPS >= asked]
        if near:
            return self.but(lltv_bps=near[0])
        # Where the list ends, what is asked for itself is refused, with the list quoted.
        beyond = round(asked / BPS)
        return self.but(lltv_bps=max(below, default=beyond) if safely else min(above, default=beyond))

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        largest_debt = Fraction(basis.open_interest_usd) * self.lltv_bps * BPS / Fraction(self.loan_token_usd)
        cap = int(largest_debt * 10**self.loan_token_decimals)
        caps: list[dict[str, Any]] = [
            {"call": "submitCap", "marketParams": self._params(), "newSupplyCap": str(cap)},
            {"call": "acceptCap", "marketParams": self._params()},
        ]
        if before.lltv_bps != self.lltv_bps:
            caps.append({"call": "submitCap", "marketParams": before._params(), "newSupplyCap": "0"})
        created = {"call": "createMarket", "marketParams": self._params()}
        return {"market.json": created, "vault_caps.json": caps}

    def _params(self) -> dict[str, str]:
        return {
            "loanToken": self.loan_token,
            "collateralToken": self.collateral_token,
            "oracle": self.oracle,
            "irm": self.irm,
            "lltv": str(self.lltv_bps * _STORED),
        }

    def worked(self) -> list[tuple[str, str]]:
        return [("liquidation incentive factor", decimal(self.incentive_factor(), 4))]

    def incentive_factor(self) -> Fraction:
        """What a liquidator gets per unit of debt repaid."""
        discount = LIQUIDATION_CURSOR * (_WAD - self.lltv_bps * _STORED) // _WAD
        return Fraction(min(MAX_INCENTIVE_FACTOR, _WAD * _WAD // (_WAD - discount)), _WAD)
