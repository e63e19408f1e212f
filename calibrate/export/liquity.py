"""Liquity v2: the ratios of a collateral branch, which is fixed when it is made.

Constants and their bounds as in `Constants.sol` and `TroveManager.sol` of liquity/bold. A change is a branch of another deployment.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any, ClassVar, Self

from calibrate.export.lending import BPS, WHOLE, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, percent, same, whole


class Branch(Native):
    """Collateral over debt, in basis points with its 100 %: `mcr` of a trove, `ccr` below which the branch borrows no more, `scr`
    at which it shuts down. Without their 100 %: `bcr_bps`, what a trove in a batch needs on top of MCR, and penalties on debt."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "initial_ratio": "debt may be drawn up to the minimum collateral ratio; leave this at 1",
        "keeper_share": "the penalty goes to the Stability Pool whole; leave this at 0",
    }

    branch: str
    mcr_bps: int
    ccr_bps: int
    scr_bps: int
    bcr_bps: int
    stability_pool_penalty_bps: int
    redistribution_penalty_bps: int

    def rules(self) -> Iterator[Rule]:
        for name, ratio in (("MCR", self.mcr_bps), ("CCR", self.ccr_bps), ("SCR", self.scr_bps)):
            yield Rule(WHOLE < ratio < 2 * WHOLE, f"100 % < {name} < 200 % (found {ratio} bps)")
        yield Rule(500 <= self.bcr_bps < 5_000, f"5 % <= BCR < 50 % (found {self.bcr_bps} bps)")
        pool, rest = self.stability_pool_penalty_bps, self.redistribution_penalty_bps
        yield Rule(
            500 <= pool <= rest <= 2_000,
            f"5 % <= Stability Pool's penalty <= redistribution's <= 20 % (found {pool}, {rest})",
        )

    def policy(self) -> dict[str, float]:
        limit = Fraction(WHOLE, self.mcr_bps)
        return lending_policy(margins(limit, limit, self.stability_pool_penalty_bps * BPS * limit), Fraction(0))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own = margins_of(policy), margins_of(self.policy())
        mcr, penalty = self.mcr_bps, self.stability_pool_penalty_bps
        if not same(asked.maintenance, own.maintenance):
            mcr = _ratio(asked.maintenance, up=safely)
        if not same(asked.penalty, own.penalty):
            penalty = min(max(whole(asked.penalty / asked.liquidation / BPS, up=True), 500), 2_000)
        rest = max(self.redistribution_penalty_bps, penalty)
        return self.but(mcr_bps=mcr, stability_pool_penalty_bps=penalty, redistribution_penalty_bps=rest)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        names = {
            "MCR": self.mcr_bps,
            "CCR": self.ccr_bps,
            "SCR": self.scr_bps,
            "BCR": self.bcr_bps,
            "LIQUIDATION_PENALTY_SP": self.stability_pool_penalty_bps,
            "LIQUIDATION_PENALTY_REDISTRIBUTION": self.redistribution_penalty_bps,
        }
        return {"branch.json": {"branch": self.branch, **{key: str(value * 10**14) for key, value in names.items()}}}

    def worked(self) -> list[tuple[str, str]]:
        left = 1 - Fraction(WHOLE + self.stability_pool_penalty_bps, self.mcr_bps)
        return [
            ("debt over collateral at which a trove is liquidated", percent(Fraction(WHOLE, self.mcr_bps))),
            ("of its collateral left there to the owner", percent(left)),
        ]


def _ratio(maintenance: Fraction, *, up: bool) -> int:
    """The collateral ratio in basis points that asks for a margin. Near a ratio of 1 a margin tells ratios apart that are nearly
    the same, so that margins are compared."""
    ratio = WHOLE / (1 - maintenance)
    nearest = round(ratio)
    if same(1 - Fraction(WHOLE, nearest), maintenance):
        return nearest
    return ceil(ratio) if up else floor(ratio)
