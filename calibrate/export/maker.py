"""Maker / Sky: the liquidation ratio, penalty and auction of one collateral type.

Basis points, seconds and whole dollars here, as a spell's test configuration writes them; rays (1e27), wads (1e18) and rads (1e45)
where they are filed. The contracts are `dog.sol`, `clip.sol`, `abaci.sol` and `spot.sol` of dss.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, decimal, kept, percent, same, whole

_RAY_OF_BPS, _WAD_OF_BPS = 10**23, 10**14


class CollateralType(Native):
    """`mat` is the least collateral over debt, `chop` the penalty on debt without its 100 %; the auction starts at `buf`, falls by
    `cut` every `step` seconds, and starts again after `tail` seconds or below `cusp`. At most `hole` is on auction."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "initial_ratio": "debt may be drawn up to the liquidation ratio; leave this at 1",
        "keeper_share": "the penalty goes to the surplus buffer whole; leave this at 0",
    }

    ilk: str
    mat_bps: int
    chop_bps: int
    hole_usd: int = Field(ge=0)
    global_hole_usd: int = Field(ge=0)
    dust_usd: int = Field(ge=0)
    buf_bps: int = Field(gt=0)
    tail_s: int = Field(gt=0)
    cusp_bps: int = Field(ge=0, lt=WHOLE)
    chip_bps: int = Field(ge=0)
    tip_usd: int = Field(ge=0)
    step_s: int = Field(gt=0)
    cut_bps: int = Field(gt=0)

    def rules(self) -> Iterator[Rule]:
        yield Rule(self.mat_bps > WHOLE, f"mat > 100 % (found {self.mat_bps} bps)")
        yield Rule(self.chop_bps >= 0, f"chop >= 1 (found {self.chop_bps} bps on top of it)")
        yield Rule(self.hole_usd <= self.global_hole_usd, "hole <= Hole")
        yield Rule(self.cut_bps <= WHOLE, "cut <= 1")
        largest = self.dust_usd * (1 + self.chop_bps * BPS)
        yield Rule(largest <= self.hole_usd, "dust x chop <= hole")

    def policy(self) -> dict[str, float]:
        limit = Fraction(WHOLE, self.mat_bps)
        return lending_policy(margins(limit, limit, self.chop_bps * BPS * limit), Fraction(0))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own = margins_of(policy), margins_of(self.policy())
        mat = self.mat_bps
        if not same(asked.maintenance, own.maintenance):
            mat = kept(1 / asked.liquidation, mat, BPS, up=safely)
        chop = self.chop_bps
        if not same(asked.penalty, own.penalty):
            chop = whole(asked.penalty / asked.liquidation / BPS, up=True)
        return self.but(mat_bps=mat, chop_bps=chop)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        files = []
        if self.mat_bps != before.mat_bps:
            files.append(
                {"contract": "MCD_SPOT", "what": "mat", "unit": "ray", "value": str(self.mat_bps * _RAY_OF_BPS)}
            )
        if self.chop_bps != before.chop_bps:
            value = str((WHOLE + self.chop_bps) * _WAD_OF_BPS)
            files.append({"contract": "MCD_DOG", "what": "chop", "unit": "wad", "value": value})
        calls = [{"call": "file(bytes32,bytes32,uint256)", "ilk": self.ilk, **entry} for entry in files]
        if self.chop_bps != before.chop_bps:
            # `chost`, the least that an auction may leave, is dust times chop, and kept by the clipper (`clip.sol`).
            calls.append({"call": "upchost()", "contract": f"MCD_CLIP_{self.ilk.replace('-', '_')}"})
        mirror = {
            "mat": self.mat_bps,
            "chop": self.chop_bps,
            "dog_hole": self.hole_usd,
            "dust": self.dust_usd,
            "clip_buf": self.buf_bps,
            "clip_tail": self.tail_s,
            "clip_cusp": self.cusp_bps,
            "clip_chip": self.chip_bps,
            "clip_tip": self.tip_usd,
            "calc_step": self.step_s,
            "calc_cut": self.cut_bps,
        }
        return {"spell_files.json": calls, "spell_test_config.json": {self.ilk: mirror}}

    def worked(self) -> list[tuple[str, str]]:
        return [
            ("debt over collateral at which a vault becomes unsafe", percent(Fraction(WHOLE, self.mat_bps))),
            ("auction price after 15 minutes, feed 100", decimal(self.auction_price(Fraction(100), 900), 3)),
            ("price falls to `cusp` of the start after (s)", decimal(Fraction(self.seconds_to_cusp()), 0)),
            ("... and the auction is reset after `tail` (s)", f"{self.tail_s:,}"),
        ]

    def simulated(self) -> dict[str, Any]:
        if self.cut_bps == WHOLE or self.hole_usd == 0:
            return {}
        # `hole` counts debt with its penalty; what is on offer is collateral, worth `mat` times the debt when a vault is bitten.
        collateral = Fraction(self.mat_bps, WHOLE + self.chop_bps)
        auction = {
            "curve": "stairs",
            "start_bps": self.buf_bps - WHOLE,
            "fall_bps": WHOLE - self.cut_bps,
            "fall_s": self.step_s,
            "reset_after_s": self.tail_s,
            "most_usd": float(self.hole_usd * collateral),
        }
        return {"auction": auction | ({"reset_below": float(self.cusp_bps * BPS)} if self.cusp_bps else {})}

    # --- formulas of the contracts ---

    def auction_price(self, feed: Fraction, seconds: int) -> Fraction:
        """Price of a stair-step exponential auction (`abaci.sol`)."""
        return feed * self.buf_bps * BPS * (self.cut_bps * BPS) ** (seconds // self.step_s)

    def seconds_to_cusp(self) -> int:
        """When the price first lies below `cusp` of its start; it should be near `tail`, or one of the two never decides."""
        if self.cut_bps == WHOLE or self.cusp_bps == 0:
            return self.tail_s
        cuts = math.floor(math.log(self.cusp_bps / WHOLE) / math.log(self.cut_bps / WHOLE)) + 1
        return cuts * self.step_s
