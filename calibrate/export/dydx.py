"""dYdX v4: a liquidity tier and the liquidation settings of the whole exchange.

Parameters, formulas and messages as in `protocol/x/perpetuals` and `protocol/x/clob` of dydxprotocol/v4-chain. Maintenance is a
fraction of initial margin, both in parts per million; a governance message replaces the whole struct, with 64-bit integers
written as strings.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from calibrate.export.native import (
    Basis,
    Native,
    Rule,
    decimal,
    in_bps,
    kept,
    percent,
    policy_of_one_number,
    share,
    whole,
)

_MILLION = 1_000_000
_PPM = Fraction(1, _MILLION)
# The module account of governance, which must be the sender of such messages.
AUTHORITY = "dydx10d07y265gmmuvt4z0w9aw880jnsr700jnmapky"
DEPOSIT = "10000000000000000000000adydx"

U32 = Annotated[int, Field(ge=0, lt=2**32)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]


class LiquidityTier(Native):
    """Margins in parts per million, amounts in quote quantums (1e-6 USDC). The fields after the caps belong to the whole
    exchange."""

    follows: ClassVar[tuple[str, ...]] = ("base_margin_bps", "initial_ratio", "penalty_bps")
    tied: ClassVar[dict[str, str]] = {
        "keeper_share": "the liquidation fee goes to the insurance fund whole (x/clob, liquidations)",
    }

    id: U32
    name: str
    initial_margin_ppm: U32
    maintenance_fraction_ppm: U32
    impact_notional: U64
    open_interest_lower_cap: U64 = 0
    open_interest_upper_cap: U64 = 0
    max_liquidation_fee_ppm: U32
    min_position_notional_liquidated: U64
    max_position_portion_liquidated_ppm: U32
    max_notional_liquidated: U64
    max_quantums_insurance_lost: U64
    bankruptcy_adjustment_ppm: U32
    spread_to_maintenance_margin_ratio_ppm: U32

    def rules(self) -> Iterator[Rule]:
        initial, fraction = self.initial_margin_ppm, self.maintenance_fraction_ppm
        lower, upper = self.open_interest_lower_cap, self.open_interest_upper_cap
        yield Rule(0 < initial <= _MILLION, f"0 < initial_margin_ppm <= 1,000,000 (found {initial:,})")
        yield Rule(0 < fraction <= _MILLION, f"0 < maintenance_fraction_ppm <= 1,000,000 (found {fraction:,})")
        yield Rule(self.impact_notional > 0, "impact_notional is not 0")
        yield Rule(lower <= upper, "open_interest_lower_cap <= open_interest_upper_cap (both 0 is none)")
        fee, portion = self.max_liquidation_fee_ppm, self.max_position_portion_liquidated_ppm
        yield Rule(0 < fee <= _MILLION, f"0 < max_liquidation_fee_ppm <= 1,000,000 (found {fee:,})")
        yield Rule(0 < portion <= _MILLION, "0 < max_position_portion_liquidated_ppm <= 1,000,000")
        yield Rule(self.max_notional_liquidated > 0, "max_notional_liquidated > 0")
        yield Rule(self.max_quantums_insurance_lost > 0, "max_quantums_insurance_lost > 0")
        yield Rule(self.bankruptcy_adjustment_ppm >= _MILLION, "bankruptcy_adjustment_ppm >= 1,000,000")
        spread = self.spread_to_maintenance_margin_ratio_ppm
        yield Rule(spread > 0, "spread_to_maintenance_margin_ratio_ppm > 0")
        yield Rule(
            spread * _PPM * self._maintenance <= 1,
            "spread_to_maintenance_margin_ratio x maintenance margin <= 1, or a long's fillable price can be negative",
        )

    def policy(self) -> dict[str, float]:
        ratio = Fraction(_MILLION, self.maintenance_fraction_ppm)
        return policy_of_one_number(self._maintenance, ratio, self.max_liquidation_fee_ppm * _PPM, 0.0)

    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        maintenance = share(policy["base_margin_bps"])
        initial = kept(maintenance * Fraction(policy["initial_ratio"]), self.initial_margin_ppm, _PPM, up=safely)
        fraction = whole(maintenance / (initial * _PPM) / _PPM, up=safely)
        # The fraction need not change where it is but the rounding of the initial margin that speaks for it.
        unmoved = self.maintenance_fraction_ppm
        if fraction <= unmoved and (initial - 1) * unmoved * _PPM**2 < maintenance:
            fraction = unmoved
        fee = kept(share(policy["penalty_bps"]), self.max_liquidation_fee_ppm, _PPM, up=True)
        return self.but(
            initial_margin_ppm=initial, maintenance_fraction_ppm=fraction, max_liquidation_fee_ppm=max(fee, 1)
        )

    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        tier = {
            "@type": "/dydxprotocol.perpetuals.MsgSetLiquidityTier",
            "authority": AUTHORITY,
            "liquidity_tier": {
                "id": self.id,
                "name": self.name,
                "initial_margin_ppm": self.initial_margin_ppm,
                "maintenance_fraction_ppm": self.maintenance_fraction_ppm,
                "impact_notional": str(self.impact_notional),
                "open_interest_lower_cap": str(self.open_interest_lower_cap),
                "open_interest_upper_cap": str(self.open_interest_upper_cap),
            },
        }
        messages = [tier]
        if self.max_liquidation_fee_ppm != before.max_liquidation_fee_ppm:
            messages.append(self._liquidations_message())
        content = {"title": basis.title, "deposit": DEPOSIT, "summary": basis.summary, "messages": messages}
        return {"proposal.json": content}

    def _liquidations_message(self) -> dict[str, Any]:
        return {
            "@type": "/dydxprotocol.clob.MsgUpdateLiquidationsConfig",
            "authority": AUTHORITY,
            "liquidations_config": {
                "max_liquidation_fee_ppm": self.max_liquidation_fee_ppm,
                "position_block_limits": {
                    "min_position_notional_liquidated": str(self.min_position_notional_liquidated),
                    "max_position_portion_liquidated_ppm": self.max_position_portion_liquidated_ppm,
                },
                "subaccount_block_limits": {
                    "max_notional_liquidated": str(self.max_notional_liquidated),
                    "max_quantums_insurance_lost": str(self.max_quantums_insurance_lost),
                },
                "fillable_price_config": {
                    "bankruptcy_adjustment_ppm": self.bankruptcy_adjustment_ppm,
                    "spread_to_maintenance_margin_ratio_ppm": self.spread_to_maintenance_margin_ratio_ppm,
                },
            },
        }

    def worked(self) -> list[tuple[str, str]]:
        maintenance = 100_000 * self._maintenance
        collateral = maintenance * 5 / 6
        price = self.fillable_price(100_000, maintenance, collateral)
        shown = [
            ("maintenance margin", percent(self._maintenance)),
            ("long of 100,000 USD with 5/6 of its maintenance: fillable price", decimal(price, 2)),
            ("... and bankruptcy price", decimal(100_000 - collateral, 2)),
            ("... and closed in one block (USD)", decimal(self.block_slice(100_000), 2)),
        ]
        if self.open_interest_upper_cap:
            middle = (self.open_interest_lower_cap + self.open_interest_upper_cap) // 2
            effective = percent(self.effective_initial_margin_ppm(middle) * _PPM)
            shown.append((f"initial margin at {middle // _MILLION:,} USDC of open interest", effective))
        return shown

    def simulated(self) -> dict[str, Any]:
        # The widest fillable price, that of an account with nothing left: 1 (its bankruptcy rating) x spread x maintenance.
        widest = self.spread_to_maintenance_margin_ratio_ppm * _PPM * self._maintenance
        rules: dict[str, Any] = {"incentive": {"fill": "limit", "limit_bps": in_bps(widest)}}
        lower, upper = self.open_interest_lower_cap / _MILLION, self.open_interest_upper_cap / _MILLION
        if upper > 0:
            # Caps that are one are a cliff, which is simulated as a steep slope.
            rules["open_interest_add_on"] = {"lower_usd": min(lower, 0.999 * upper), "upper_usd": upper}
        return rules

    # --- formulas of the exchange ---

    @property
    def _maintenance(self) -> Fraction:
        return self.initial_margin_ppm * _PPM * self.maintenance_fraction_ppm * _PPM

    def effective_initial_margin_ppm(self, open_interest: int) -> int:
        """Initial margin at an open interest in quote quantums (`liquidity_tier.go`)."""
        lower, upper, base = self.open_interest_lower_cap, self.open_interest_upper_cap, self.initial_margin_ppm
        if upper == 0 or open_interest <= lower:
            return base
        if open_interest >= upper:
            return _MILLION
        return base + (_MILLION - base) * (open_interest - lower) // (upper - lower)

    def bankruptcy_rating(self, maintenance: Fraction, collateral: Fraction) -> Fraction:
        """How far an account is from its maintenance (0) to bankruptcy (1), by requirement and net collateral."""
        rating = self.bankruptcy_adjustment_ppm * _PPM * (1 - collateral / maintenance)
        return min(max(rating, Fraction(0)), Fraction(1))

    def fillable_price(self, notional: int, maintenance: Fraction, collateral: Fraction) -> Fraction:
        """Worst price at which a long of one unit is sold, by its notional, requirement and net collateral (USD)."""
        spread = self.spread_to_maintenance_margin_ratio_ppm * _PPM
        return notional - self.bankruptcy_rating(maintenance, collateral) * spread * maintenance

    def block_slice(self, notional: int) -> Fraction:
        """How much of a position one block may close (USD), before the account's own limit."""
        portion = self.max_position_portion_liquidated_ppm * _PPM * notional
        return min(max(portion, self.min_position_notional_liquidated * _PPM), Fraction(notional))
