"""Aave v3: a reserve's collateral parameters, or those of an e-mode category; and what v4 does differently.

Units and constraints as in `ReserveConfiguration.sol` and `PoolConfigurator.sol` of aave-v3-origin; proposals as its config engine
takes them, where a bonus is written without its 100 % and what is to stay is `KEEP_CURRENT`.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import Field

from calibrate.export.lending import BPS, WHOLE, bps_left, equity_over_margin, lending_policy, margins, margins_of
from calibrate.export.native import Basis, Native, Rule, decimal, percent, same, whole

KEEP_CURRENT = 2**256 - 1 - 42
KEEP_CURRENT_STRING = "KEEP_CURRENT_STRING"
# Constants of v3's `LiquidationLogic.sol`: half of the debt at a time, all of it below this health. No less than so many USD of
# debt or collateral may be left (v3 and v4).
_CLOSE_FACTOR, _ALL_BELOW = Fraction(1, 2), Fraction(95, 100)
_LEAST_LEFT_USD = 1_000


class Reserve(Native):
    """Basis points; the liquidation bonus includes its 100 % (10,500 is 5 %). `emode_category` is 0 for the reserve itself; the
    protocol's fee of an e-mode is that of its collateral, which stays."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps", "keeper_share")

    asset: str
    emode_category: int = Field(default=0, ge=0, le=255)
    ltv_bps: int = Field(ge=0, le=WHOLE)
    liquidation_threshold_bps: int = Field(gt=0, lt=WHOLE)
    liquidation_bonus_bps: int = Field(ge=0, lt=2**16)
    liquidation_protocol_fee_bps: int = Field(ge=0, lt=WHOLE)

    @property
    def not_free(self) -> dict[str, str]:
        fee = (
            "an e-mode has no fee of its own; give its collateral's as `liquidation_protocol_fee_bps` in [venue.native]"
        )
        return super().not_free | ({"keeper_share": fee} if self.emode_category else {})

    def rules(self) -> Iterator[Rule]:
        ltv, threshold, bonus = self.ltv_bps, self.liquidation_threshold_bps, self.liquidation_bonus_bps
        yield Rule(ltv <= threshold, f"LTV <= liquidation threshold (found {ltv} and {threshold} bps)")
        yield Rule(bonus > WHOLE, f"liquidation bonus, with its 100 %, > 10,000 bps (found {bonus})")
        product = percent(threshold * BPS * bonus * BPS)
        yield Rule(
            threshold * bonus <= WHOLE**2, f"liquidation threshold x liquidation bonus <= 100 % (found {product})"
        )

    def policy(self) -> dict[str, float]:
        threshold = self.liquidation_threshold_bps * BPS
        limits = margins(self.ltv_bps * BPS, threshold, self._bonus * threshold)
        return lending_policy(limits, 1 - self.liquidation_protocol_fee_bps * BPS)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own = margins_of(policy), margins_of(self.policy())
        threshold = bps_left(asked.maintenance, self.liquidation_threshold_bps, up=safely)
        bonus = self.liquidation_bonus_bps
        if not same(asked.penalty, own.penalty):
            bonus = WHOLE + whole(asked.penalty / asked.liquidation / BPS, up=True)
        fee = bps_left(Fraction(policy["keeper_share"]), self.liquidation_protocol_fee_bps, up=True)
        return self.but(
            ltv_bps=max(min(bps_left(asked.initial, self.ltv_bps, up=safely), threshold), 0),
            liquidation_threshold_bps=threshold,
            liquidation_bonus_bps=min(bonus, WHOLE**2 // threshold) if threshold > 0 else bonus,
            liquidation_protocol_fee_bps=fee,
        )

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del basis
        values = {
            "ltv": (self.ltv_bps, before.ltv_bps),
            "liqThreshold": (self.liquidation_threshold_bps, before.liquidation_threshold_bps),
            "liqBonus": (self.liquidation_bonus_bps - WHOLE, before.liquidation_bonus_bps - WHOLE),
        }
        kept = str(KEEP_CURRENT)
        written = {key: kept if now == was else str(now) for key, (now, was) in values.items()}
        if self.emode_category:
            stays = {"label": KEEP_CURRENT_STRING, "isolated": kept}
            update = {"eModeCategory": self.emode_category, **written, **stays}
            return {"config_engine.json": {"EModeCategoryUpdate": update}}
        files: dict[str, Any] = {}
        if self.liquidation_protocol_fee_bps != before.liquidation_protocol_fee_bps:
            # Apart from the rest, since risk stewards refuse an update that has it (`RiskSteward.sol`, ParamChangeNotAllowed).
            fee = dict.fromkeys(values, kept) | {"liqProtocolFee": str(self.liquidation_protocol_fee_bps)}
            files["config_engine_fee.json"] = {"CollateralUpdate": {"asset": self.asset, **fee}}
        if set(written.values()) != {kept}:
            update = {"asset": self.asset, **written, "liqProtocolFee": kept}
            files["config_engine.json"] = {"CollateralUpdate": update}
        return files

    def worked(self) -> list[tuple[str, str]]:
        threshold = self.liquidation_threshold_bps * BPS
        return [
            ("share of the collateral left when liquidation begins and all debt is repaid",
             percent(1 - threshold * (1 + self._bonus))),
            ("of the bonus, to the protocol", percent(self.liquidation_protocol_fee_bps * BPS)),
        ]  # fmt: skip

    def simulated(self) -> dict[str, Any]:
        threshold = self.liquidation_threshold_bps * BPS
        # What is closed is collateral: half of the debt at the trigger, with the bonus on it.
        seized = _CLOSE_FACTOR * threshold * (1 + self._bonus)
        return {
            "close": {
                "rule": "fraction",
                "fraction": float(seized),
                "full_below_health": max(equity_over_margin(threshold, _ALL_BELOW), 0.0),
                "dust_usd": float(_LEAST_LEFT_USD / threshold),
            }
        }

    @property
    def _bonus(self) -> Fraction:
        return self.liquidation_bonus_bps * BPS - 1


class Spoke(Native):
    """Aave v4: one collateral factor, a bonus that grows as health falls, and liquidations up to a target health. The bonus, with
    its 100 %, is the largest; the simulation pays it from the start."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "initial_ratio": "the collateral factor limits borrowing and liquidation alike; leave this at 1",
        "keeper_share": "set by the venue's own fee; leave this at 1",
    }

    asset: str
    collateral_factor_bps: int = Field(gt=0, lt=WHOLE)
    max_liquidation_bonus_bps: int = Field(ge=WHOLE, lt=2**16)
    target_health_bps: int = Field(ge=WHOLE)

    def rules(self) -> Iterator[Rule]:
        product = self.collateral_factor_bps * self.max_liquidation_bonus_bps
        yield Rule(product < WHOLE**2, "collateral factor x largest liquidation bonus < 100 %")

    def policy(self) -> dict[str, float]:
        factor = self.collateral_factor_bps * BPS
        bonus = self.max_liquidation_bonus_bps * BPS - 1
        return lending_policy(margins(factor, factor, bonus * factor), Fraction(1))

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        asked, own = margins_of(policy), margins_of(self.policy())
        factor = bps_left(asked.maintenance, self.collateral_factor_bps, up=safely)
        bonus = self.max_liquidation_bonus_bps
        if not same(asked.penalty, own.penalty):
            bonus = WHOLE + whole(asked.penalty / asked.liquidation / BPS, up=True)
        highest = (WHOLE**2 - 1) // factor if factor > 0 else bonus
        return self.but(collateral_factor_bps=factor, max_liquidation_bonus_bps=min(bonus, highest))

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        del before, basis
        values = {
            "collateralFactor": self.collateral_factor_bps,
            "maxLiquidationBonus": self.max_liquidation_bonus_bps,
            "targetHealthFactor": self.target_health_bps,
        }
        return {"spoke_values.json": {"asset": self.asset, "bps": values}}

    def worked(self) -> list[tuple[str, str]]:
        repaid = self.repaid_to_target(Fraction(100), Fraction(95, 100))
        return [("of 100 of debt at health 0.95, repaid to reach the target", decimal(repaid, 2))]

    def simulated(self) -> dict[str, Any]:
        factor, target = self.collateral_factor_bps * BPS, self.target_health_bps * BPS
        health = equity_over_margin(factor, target)
        if health <= 1:
            return {}
        dust = float(_LEAST_LEFT_USD / factor)
        return {"close": {"rule": "to-target", "target_health": min(health, 100.0), "dust_usd": dust}}

    def repaid_to_target(self, debt: Fraction, health: Fraction) -> Fraction:
        """Debt that a liquidation repays so that health comes to its target (v4 `LiquidationLogic.sol`), at the largest bonus."""
        target = self.target_health_bps * BPS
        seized = self.max_liquidation_bonus_bps * BPS * self.collateral_factor_bps * BPS
        return debt * (target - health) / (target - seized)
