"""Synthetix v3 perpetuals, as they were on Base until 2025: margin that grows with a position, flagged accounts wound down in
windows.

Parameters as in `PerpsMarketConfiguration.sol` of synthetix-v3, whose setters check nothing; what is demanded here is what makes
sense of them. Ratios are kept in basis points of 1e18.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE
from calibrate.export.native import Basis, Native, Rule, decimal, kept, percent, policy_of_one_number, share

_MICRO = Fraction(1, 1_000_000)


class PerpsMarket(Native):
    """Initial margin is `initial_margin_ratio_bps` times size over `skew_scale`, and `minimum_initial_margin_ratio_ppm`;
    maintenance is `maintenance_margin_scalar_ppm` of it. `skew_scale` is in base units, worth `reference_price_usd` each."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio")
    tied: ClassVar[dict[str, str]] = {
        "penalty_bps": "a flagged account loses all its collateral, which is its maintenance margin when it is flagged",
        "keeper_share": "the reward for flagging over what is seized; set `flag_reward_ratio_ppm` in [venue.native]",
    }

    market: str
    skew_scale: int = Field(gt=0)
    reference_price_usd: float = Field(gt=0, allow_inf_nan=False)
    initial_margin_ratio_bps: int = Field(ge=0)
    minimum_initial_margin_ratio_ppm: int
    maintenance_margin_scalar_ppm: int
    flag_reward_ratio_ppm: int = Field(ge=0)
    maker_fee_ppm: int = Field(ge=0)
    taker_fee_ppm: int = Field(gt=0)
    limit_multiplier_bps: int = Field(gt=0)
    window_s: int = Field(gt=0)

    def rules(self) -> Iterator[Rule]:
        minimum, scalar = self.minimum_initial_margin_ratio_ppm, self.maintenance_margin_scalar_ppm
        yield Rule(0 < minimum < 1_000_000, f"0 < minimumInitialMarginRatio < 1 (found {minimum} ppm)")
        yield Rule(0 < scalar < 1_000_000, f"0 < maintenanceMarginScalar < 1 (found {scalar} ppm)")
        reward = self.flag_reward_ratio_ppm * _MICRO
        yield Rule(reward <= self._maintenance, "the reward for flagging is no more than what is seized")

    def policy(self) -> dict[str, float]:
        margin, reward = self._maintenance, self.flag_reward_ratio_ppm * _MICRO
        return policy_of_one_number(margin, 1 / self._scalar, margin, reward / margin)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        maintenance = share(policy["base_margin_bps"])
        initial = kept(
            maintenance * Fraction(policy["initial_ratio"]), self.minimum_initial_margin_ratio_ppm, _MICRO, up=safely
        )
        scalar = kept(maintenance / (initial * _MICRO), self.maintenance_margin_scalar_ppm, _MICRO, up=safely)
        return self.but(minimum_initial_margin_ratio_ppm=initial, maintenance_margin_scalar_ppm=scalar)

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        arguments = [
            self.initial_margin_ratio_bps * 10**14,
            self.minimum_initial_margin_ratio_ppm * 10**12,
            self.maintenance_margin_scalar_ppm * 10**12,
            self.flag_reward_ratio_ppm * 10**12,
        ]
        call = {"func": "setLiquidationParameters", "market": self.market, "args": [str(value) for value in arguments]}
        return {"liquidation_parameters.json": call}

    def worked(self) -> list[tuple[str, str]]:
        shown = [("window's capacity (base units)", decimal(self.capacity()))]
        for units in (self.skew_scale // 100, self.skew_scale // 10):
            what = f"initial and maintenance margin of {units:,} units"
            initial = self.initial_margin(units)
            shown.append((what, f"{percent(initial)}, {percent(initial * self._scalar)}"))
        return shown

    def simulated(self) -> dict[str, Any]:
        at_usd, price = self.skew_scale * self.reference_price_usd, self.reference_price_usd
        rules: dict[str, Any] = {"close_cap": {"most_usd": float(self.capacity()) * price, "window_s": self.window_s}}
        if self.initial_margin_ratio_bps:
            added = self.initial_margin_ratio_bps * self._scalar
            rules["size_add_on"] = {"add_on_bps": float(added), "at_usd": at_usd}
        return rules

    # --- formulas of the venue ---

    @property
    def _scalar(self) -> Fraction:
        return self.maintenance_margin_scalar_ppm * _MICRO

    @property
    def _maintenance(self) -> Fraction:
        """Of a position too small to count."""
        return self.minimum_initial_margin_ratio_ppm * _MICRO * self._scalar

    def initial_margin(self, units: int) -> Fraction:
        """Initial margin of a position of so many base units, as a share of its notional."""
        slope = self.initial_margin_ratio_bps * BPS
        return slope * Fraction(units, self.skew_scale) + self.minimum_initial_margin_ratio_ppm * _MICRO

    def capacity(self) -> Fraction:
        """What a window may wind down, in base units (`PerpsMarketConfiguration.sol`)."""
        fees = (self.maker_fee_ppm + self.taker_fee_ppm) * _MICRO
        return fees * self.skew_scale * Fraction(self.limit_multiplier_bps, WHOLE) * self.window_s
