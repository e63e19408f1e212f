"""Derive (Lyra v2): margin of perpetuals in the standard manager, and the start of its auctions.

Requirements as in `StandardManager.sol` of derivexyz/v2-core, fractions of 1e18; new values are whole millionths. Auctions as in
`DutchAuction.sol`: what an account is worth is offered at a discount that grows.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE
from calibrate.export.native import Basis, Native, Rule, percent, policy_of_one_number, same, share, whole

_WAD = 10**18
_UNIT = Fraction(1, _WAD)
_MILLIONTH = 10**12


class PerpRequirements(Native):
    """`mm_perp_req_e18` and `im_perp_req_e18` of notional. An auction goes from `start_bps` of an account's value to
    `fast_end_bps` within a quarter of an hour; what is taken leaves `buffer_bps` of the requirement above it."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio")
    tied: ClassVar[dict[str, str]] = {
        "penalty_bps": "it is the auction's discount on what an account is worth when it may be liquidated",
        "keeper_share": "the discount goes to whoever takes the account over; leave this at 1",
    }

    market: str
    mm_perp_req_e18: int
    im_perp_req_e18: int
    start_bps: int = Field(gt=0, le=WHOLE)
    fast_end_bps: int = Field(ge=0, lt=WHOLE)
    buffer_bps: int = Field(gt=0, le=40_000)

    def rules(self) -> Iterator[Rule]:
        maintenance, initial = self.mm_perp_req_e18, self.im_perp_req_e18
        yield Rule(
            0 < maintenance <= initial < _WAD, f"0 < mmPerpReq <= imPerpReq < 1e18 (found {maintenance} and {initial})"
        )
        yield Rule(self.fast_end_bps <= self.start_bps, "an auction's price does not rise")

    def policy(self) -> dict[str, float]:
        maintenance = self.mm_perp_req_e18 * _UNIT
        ratio, off = Fraction(self.im_perp_req_e18, self.mm_perp_req_e18), 1 - self.fast_end_bps * BPS
        return policy_of_one_number(maintenance, ratio, off * maintenance, 1.0)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        margin = share(policy["base_margin_bps"])
        maintenance = _on_grid(margin, self.mm_perp_req_e18, up=safely)
        initial = _on_grid(margin * Fraction(policy["initial_ratio"]), self.im_perp_req_e18, up=safely)
        return self.but(mm_perp_req_e18=maintenance, im_perp_req_e18=max(initial, maintenance))

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        values = {"mmPerpReq": str(self.mm_perp_req_e18), "imPerpReq": str(self.im_perp_req_e18)}
        return {"srm_params.json": {self.market: {"setPerpMarginRequirements": values}}}

    def worked(self) -> list[tuple[str, str]]:
        maintenance = self.mm_perp_req_e18 * _UNIT
        value = maintenance / 2
        return [
            ("maintenance and initial margin", f"{percent(maintenance)}, {percent(self.im_perp_req_e18 * _UNIT)}"),
            ("of an account worth half of its maintenance, on offer at the start", percent(self.on_offer(value))),
        ]

    def simulated(self) -> dict[str, Any]:
        return {"close": {"rule": "to-target", "target_health": float(1 + self.buffer_bps * BPS)}}

    # --- formulas of the venue ---

    def on_offer(self, value: Fraction) -> Fraction:
        """Part of an account worth `value` of notional that may be taken at the start of an auction (`DutchAuction.sol`)."""
        requirement = self.mm_perp_req_e18 * _UNIT
        margin = value - requirement
        buffered = margin - self.buffer_bps * BPS * requirement
        return min(buffered / (buffered - value * self.start_bps * BPS), Fraction(1))


def _on_grid(asked: Fraction, before: int, *, up: bool) -> int:
    """As before where that is the same, else a whole number of millionths."""
    return before if same(before * _UNIT, asked) else whole(asked / _UNIT / _MILLIONTH, up=up) * _MILLIONTH
