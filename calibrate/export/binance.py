"""Binance USD-margined futures: leverage brackets with their cumulative maintenance amounts.

Fields as in the exchange's leverage brackets. An exchange announces its tables; what is written is the table itself, with `cum`
recomputed from the floors. The liquidation fee is no part of the table.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from calibrate.export.native import Basis, Native, Rule, decimal, kept, percent, policy_of_one_number, share, whole
from calibrate.export.tiers import deductions, laid_out, maintenance, rises
from calibrate.section import Section

_BPS = Fraction(1, 10_000)
MOST_LEVERAGE = 125


class Bracket(Section):
    """From the notional at which the one before ends up to `notional_cap` (USD)."""

    initial_leverage: int
    notional_cap: int = Field(gt=0)
    maint_margin_ratio_bps: int


class BracketTable(Native):
    """`bracket` is the one, counted from 1, at whose margin every position is simulated."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio")
    tied: ClassVar[dict[str, str]] = {
        "penalty_bps": "the liquidation fee is no part of the table; set `liquidation_fee_ppm` in [venue.native]",
        "keeper_share": "the liquidation fee goes to the insurance fund whole",
    }
    first_row: ClassVar[int] = 1

    symbol: str
    bracket: int = Field(default=1, ge=1)
    liquidation_fee_ppm: int = Field(ge=0, lt=1_000_000)
    brackets: Annotated[tuple[Bracket, ...], BeforeValidator(tuple)]

    def rules(self) -> Iterator[Rule]:
        caps = [row.notional_cap for row in self.brackets]
        yield Rule(len(caps) > 0, "a table has at least one bracket")
        rising = rises(caps, strictly=True)
        yield Rule(rising, f"notionalCap rises strictly from bracket to bracket (found {caps})")
        rates, leverages = self._ratios, self._leverages
        steady = rises(rates)
        yield Rule(steady, f"maintMarginRatio does not fall from bracket to bracket (found {rates} bps)")
        falling = rises(leverages[::-1])
        yield Rule(falling, f"initialLeverage does not rise from bracket to bracket (found {leverages})")
        legal = all(1 <= leverage <= MOST_LEVERAGE for leverage in leverages)
        yield Rule(legal, f"initialLeverage is a whole number from 1 to {MOST_LEVERAGE} (found {leverages})")
        yield Rule(min(rates, default=1) > 0, f"maintMarginRatio > 0 (found {rates} bps)")
        below = all(rate * leverage < 10_000 for rate, leverage in zip(rates, leverages, strict=True))
        yield Rule(below, "maintMarginRatio x initialLeverage < 1: maintenance below initial margin in every bracket")
        yield Rule(
            self.bracket <= len(caps), f"`bracket` is one of the table's, 1 to {len(caps)} (found {self.bracket})"
        )

    def policy(self) -> dict[str, float]:
        chosen = self.brackets[self.bracket - 1]
        rate = chosen.maint_margin_ratio_bps * _BPS
        fee = Fraction(self.liquidation_fee_ppm, 1_000_000)
        return policy_of_one_number(rate, 1 / (rate * chosen.initial_leverage), fee, 0.0)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        n = self.bracket - 1
        margin = share(policy["base_margin_bps"])
        rate = kept(margin, self._ratios[n], _BPS, up=safely)
        leverage = whole(1 / (margin * Fraction(policy["initial_ratio"])), up=not safely)
        # Rounding up a small maintenance margin must not lift it above the initial one.
        leverage = min(leverage, (10_000 - 1) // rate)
        columns = zip(
            laid_out(self._leverages, n, leverage, rising=False),
            self.brackets,
            laid_out(self._ratios, n, rate, rising=True),
            strict=True,
        )
        rows = [
            Bracket(initial_leverage=x, notional_cap=old.notional_cap, maint_margin_ratio_bps=m)
            for x, old, m in columns
        ]
        return self.but(brackets=rows)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        cums = self.cumulative_amounts()
        rows = [
            {
                "bracket": i + 1,
                "initialLeverage": row.initial_leverage,
                "notionalCap": row.notional_cap,
                "notionalFloor": floor,
                "maintMarginRatio": float(rate),
                "cum": float(cum),
            }
            for i, (row, floor, rate, cum) in enumerate(
                zip(self.brackets, self._floors, self._rates, cums, strict=True)
            )
        ]
        return {"leverage_brackets.json": [{"symbol": self.symbol, "notionalCoef": 1.0, "brackets": rows}]}

    def worked(self) -> list[tuple[str, str]]:
        shown = []
        for n, cum in enumerate(self.cumulative_amounts()):
            row = self.brackets[n]
            what = f"bracket {n + 1}: {row.initial_leverage}x up to {row.notional_cap:,} USD"
            shown.append((what, f"{percent(self._rates[n])} less {decimal(cum, 2)}"))
        size = min(self.brackets[0].notional_cap * 2, self.brackets[-1].notional_cap)
        return [*shown, (f"maintenance of a position of {size:,} USD", decimal(self.maintenance(size), 2))]

    # --- formulas of the exchange ---

    @property
    def _floors(self) -> list[int]:
        return [0, *(row.notional_cap for row in self.brackets[:-1])]

    @property
    def _ratios(self) -> list[int]:
        return [row.maint_margin_ratio_bps for row in self.brackets]

    @property
    def _leverages(self) -> list[int]:
        return [row.initial_leverage for row in self.brackets]

    @property
    def _rates(self) -> list[Fraction]:
        return [ratio * _BPS for ratio in self._ratios]

    def cumulative_amounts(self) -> list[Fraction]:
        """What each bracket takes off the maintenance margin (USD)."""
        return deductions(self._floors, self._rates)

    def maintenance(self, notional: int) -> Fraction:
        """Maintenance margin of a position (USD)."""
        return maintenance(notional, self._floors, self._rates)
