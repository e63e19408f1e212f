"""Hyperliquid: a margin table of lower bounds and whole leverages.

Maintenance is no parameter: it is half of the initial margin at the tier's maximum leverage. Rules of the table and the deployer's
actions as in the venue's documentation (margin tiers; HIP-3 deployer actions).
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from calibrate.export.native import Basis, Native, Rule, decimal, percent, policy_of_one_number, share, whole
from calibrate.export.tiers import deductions, laid_out, maintenance, rises
from calibrate.section import Section

MOST_LEVERAGE = 50
# Tables below this number are flat, with the number itself as their leverage.
_FLAT_TABLES = 50


class Tier(Section):
    """From `lower_bound` (USD of notional) upwards."""

    lower_bound: int = Field(ge=0)
    max_leverage: int


class MarginTable(Native):
    """`tier` is the one, counted from 0, at whose margin every position is simulated. A market of a deployer has a `dex`."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps",)
    tied: ClassVar[dict[str, str]] = {
        "initial_ratio": "maintenance is half of the initial margin at maximum leverage; leave this at 2",
        "penalty_bps": "a position closed on the book pays no liquidation fee; leave this at 0",
        "keeper_share": "positions are closed by the venue's own market orders; leave this at 0",
    }

    coin: str
    dex: str | None = None
    tier: int = Field(default=0, ge=0)
    tiers: Annotated[tuple[Tier, ...], BeforeValidator(tuple)]

    def rules(self) -> Iterator[Rule]:
        bounds, leverages = self._bounds, self._leverages
        yield Rule(1 <= len(bounds) <= 3, f"a table has 1 to 3 tiers (found {len(bounds)})")
        yield Rule(bounds[:1] == [0], "the first lowerBound is 0")
        rising = rises(bounds, strictly=True)
        yield Rule(rising, f"lowerBound rises strictly from tier to tier (found {bounds})")
        falling = rises(leverages[::-1])
        yield Rule(falling, f"maxLeverage does not rise from tier to tier (found {leverages})")
        legal = all(1 <= leverage <= MOST_LEVERAGE for leverage in leverages)
        yield Rule(legal, f"maxLeverage is a whole number from 1 to {MOST_LEVERAGE} (found {leverages})")
        yield Rule(self.tier < len(bounds), f"`tier` is one of the table's, 0 to {len(bounds) - 1} (found {self.tier})")

    def policy(self) -> dict[str, float]:
        return policy_of_one_number(self._rates[self.tier], 2.0, Fraction(0), 0.0)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        leverage = whole(1 / (2 * share(policy["base_margin_bps"])), up=not safely)
        leverages = laid_out(self._leverages, self.tier, leverage, rising=False)
        tiers = [Tier(lower_bound=b, max_leverage=v) for b, v in zip(self._bounds, leverages, strict=True)]
        return self.but(tiers=tiers)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before
        kept = [t for i, t in enumerate(self.tiers) if i == 0 or t.max_leverage < self.tiers[i - 1].max_leverage]
        description = f"{self.coin} tiered {kept[0].max_leverage}x" if len(kept) > 1 else f"{kept[0].max_leverage}x"
        rows = [{"lowerBound": tier.lower_bound, "maxLeverage": tier.max_leverage} for tier in kept]
        read = [row | {"lowerBound": f"{row['lowerBound']}.0"} for row in rows]
        files: dict[str, Any] = {"margin_table.json": {"description": description, "marginTiers": read}}
        if self.dex is None:
            return files
        if len(kept) == 1 and kept[0].max_leverage < _FLAT_TABLES:
            ids = [[f"{self.dex}:{self.coin}", kept[0].max_leverage]]
            return files | {"perp_deploy.json": {"type": "perpDeploy", "setMarginTableIds": ids}}
        table = {"dex": self.dex, "marginTable": {"description": description, "marginTiers": rows}}
        return files | {"perp_deploy.json": {"type": "perpDeploy", "insertMarginTable": table}}

    def worked(self) -> list[tuple[str, str]]:
        shown = []
        for n, (tier, rate) in enumerate(zip(self.tiers, self._rates, strict=True)):
            shown.append((f"tier {n}: maintenance rate at {tier.max_leverage}x", percent(rate)))
            off = decimal(deductions(self._bounds, self._rates)[n], 2)
            shown.append((f"tier {n}: deduction (USD)", off))
        size = 2 * self._bounds[-1] or 1_000_000
        return [*shown, (f"maintenance of a position of {size:,} USD", decimal(self.maintenance(size), 2))]

    # --- formulas of the venue ---

    @property
    def _bounds(self) -> list[int]:
        return [tier.lower_bound for tier in self.tiers]

    @property
    def _leverages(self) -> list[int]:
        return [tier.max_leverage for tier in self.tiers]

    @property
    def _rates(self) -> list[Fraction]:
        return [Fraction(1, 2 * leverage) for leverage in self._leverages]

    def maintenance(self, notional: int) -> Fraction:
        """Maintenance margin of a position (USD)."""
        return maintenance(notional, self._bounds, self._rates)
