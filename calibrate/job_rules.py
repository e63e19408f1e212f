"""Rules that not every venue has, as a job states them under `[venue]`. What is left out does not exist in the simulation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.job_guards import GuardsSection, MarkParts
from calibrate.section import NotNegative, Positive, Section, Share


class BackstopSection(Section):
    """Who pays for bad debt beside the insurance fund. The fund pays at most `fund_cap_usd` at once, which grows back over
    `fund_cap_window_s` (never, without it); then the vault pays; then winners of the other side are deleveraged, if the venue
    does so; and what is left is shared by all."""

    fund_cap_usd: Positive | None = None
    fund_cap_window_s: Positive | None = None
    vault_usd: Positive | None = None
    auto_deleveraging: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "BackstopSection":
        if self.fund_cap_window_s is not None and self.fund_cap_usd is None:
            raise ValueError("`fund_cap_window_s` has no meaning without `fund_cap_usd`; add it or remove the window")
        if self.fund_cap_usd is None and self.vault_usd is None and not self.auto_deleveraging:
            raise ValueError("names no layer; give `fund_cap_usd`, `vault_usd` or `auto_deleveraging = true`")
        return self


class TierSection(Section):
    """What a position has above `from_usd` pays `factor` times the policy's maintenance margin."""

    from_usd: NotNegative
    factor: Positive


class SizeAddOnSection(Section):
    """Adds `add_on_bps * (size / at_usd) ^ exponent` to `floor_part` of the maintenance margin, which never falls below the
    margin without it."""

    add_on_bps: Positive
    at_usd: Positive
    exponent: Positive = 1.0
    floor_part: Share = 1.0


class OpenInterestSection(Section):
    """Between two caps open interest raises the initial requirement, linearly, up to all of the notional."""

    lower_usd: NotNegative
    upper_usd: Positive

    @model_validator(mode="after")
    def _order(self) -> "OpenInterestSection":
        if self.lower_usd >= self.upper_usd:
            raise ValueError(
                f"`lower_usd` is {self.lower_usd:g} and `upper_usd` {self.upper_usd:g}; expected the first to be smaller"
            )
        return self


class CloseSection(Section):
    """How much a liquidation closes: a `fraction` of what is left, or what brings equity back to `target_health` times the
    maintenance margin. Accounts below `full_below_health` are closed in full; touched ones rest for `cooldown_s`."""

    rule: Literal["fraction", "to-target"]
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    target_health: Annotated[float, Field(gt=1, le=100)] | None = None
    full_below_health: Share = 0.0
    cooldown_s: NotNegative = 0.0

    @model_validator(mode="after")
    def _fits_rule(self) -> "CloseSection":
        if (self.fraction is not None) != (self.rule == "fraction"):
            raise ValueError('`fraction` belongs to rule = "fraction", and that rule needs it')
        if (self.target_health is not None) != (self.rule == "to-target"):
            raise ValueError('`target_health` belongs to rule = "to-target", and that rule needs it')
        return self


class CloseCapSection(Section):
    """At most `most_usd` is closed at once, of all accounts; that grows back over `window_s`."""

    most_usd: Positive
    window_s: Positive


class BonusSection(Section):
    """The penalty rises from the policy's to `highest_bps` as equity over maintenance margin falls between two healths."""

    highest_bps: Positive
    from_health: Share = 1.0
    to_health: Share = 0.0

    @model_validator(mode="after")
    def _order(self) -> "BonusSection":
        if self.to_health >= self.from_health:
            raise ValueError(
                f"`to_health` is {self.to_health:g} and `from_health` {self.from_health:g}; expected the first to be smaller"
            )
        return self


class IncentiveSection(Section):
    """What keepers get and where they close. Floor and cap are per position; gas rises with volatility above its median to
    the power `gas_volatility_exponent`. Closes are done in the market, at the `oracle` price by whoever takes the position
    over, or by the venue's own order up to `limit_bps` from the oracle price."""

    keeper_floor_usd: Positive | None = None
    keeper_cap_usd: Positive | None = None
    gas_volatility_exponent: Positive | None = None
    bonus: BonusSection | None = None
    fill: Literal["market", "oracle", "limit"] = "market"
    limit_bps: Positive | None = None

    @model_validator(mode="after")
    def _fits(self) -> "IncentiveSection":
        if (self.limit_bps is not None) != (self.fill == "limit"):
            raise ValueError('`limit_bps` belongs to fill = "limit", and that needs it')
        floor, cap = self.keeper_floor_usd, self.keeper_cap_usd
        if floor is not None and cap is not None and floor >= cap:
            raise ValueError(
                f"`keeper_floor_usd` is {floor:g} and `keeper_cap_usd` {cap:g}; expected the first to be smaller"
            )
        return self


class TriggerSection(Section):
    """Accounts are judged at the `oracle` price, that of the `market`, or a `mark` price; and `extra_bps` of notional (fees, a
    keeper's reward) are asked for on top of the maintenance margin. A mark price is the median of `mark_of`; the basis in it is an
    exponential average over `mark_basis_s` of how far the market is from the oracle."""

    price: Literal["oracle", "market", "mark"] = "oracle"
    extra_bps: NotNegative = 0.0
    mark_of: MarkParts | None = None
    mark_basis_s: Positive | None = None

    @model_validator(mode="after")
    def _fits_price(self) -> "TriggerSection":
        parts = self.mark_of or []
        if (self.price == "mark") != bool(parts):
            raise ValueError('`mark_of` belongs to price = "mark", and that needs it')
        if len(set(parts)) < len(parts):
            raise ValueError("`mark_of` names a price twice; name each once")
        if ("oracle-and-basis" in parts) != (self.mark_basis_s is not None):
            raise ValueError("`mark_basis_s` belongs to `oracle-and-basis` in `mark_of`, and that needs it")
        return self


class MarginCallSection(Section):
    """Accounts below `warning_health` times the maintenance margin are called; `response_s` later a share of them has topped
    up."""

    warning_health: Annotated[float, Field(gt=1, le=100)]
    top_up_share: Share
    response_s: NotNegative = 0.0


class VenueRules(Section):
    """The rules, and what keeps them from being combined."""

    recheck: bool = True
    keepers: Literal["for-profit", "unlimited"] = "for-profit"
    backstop: BackstopSection | None = None
    tiers: Annotated[list[TierSection], Field(min_length=2, max_length=32)] | None = None
    size_add_on: SizeAddOnSection | None = None
    open_interest_add_on: OpenInterestSection | None = None
    close: CloseSection | None = None
    close_cap: CloseCapSection | None = None
    incentive: IncentiveSection | None = None
    trigger: TriggerSection | None = None
    margin_calls: MarginCallSection | None = None
    guards: GuardsSection | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> "VenueRules":
        wrong = [message for found, message in self._clashes() if found]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _clashes(self) -> list[tuple[bool, str]]:
        bounds = [tier.from_usd for tier in self.tiers or []]
        factors = [tier.factor for tier in self.tiers or []]
        rising = bounds == sorted(set(bounds)) and factors == sorted(factors)
        bonus = self.incentive is not None and self.incentive.bonus is not None
        for_profit = self.incentive is not None and (self.incentive != IncentiveSection(bonus=self.incentive.bonus))
        return [
            (bool(bounds) and bounds[0] != 0, "`tiers` must start with `from_usd = 0`"),
            (not rising, "`tiers` must rise: each `from_usd` above the one before it, no `factor` below it"),
            (self.close is not None and not self.recheck, "a `close` in parts needs `recheck = true`"),
            (
                self.close is not None and self.margin_calls is not None,
                "a `close` in parts cannot be combined with `margin_calls`",
            ),
            (self.close is not None and bonus, "a `close` in parts cannot be combined with `incentive.bonus`"),
            (
                self.close_cap is not None and self.keepers == "unlimited",
                'a `close_cap` limits keepers; it needs keepers = "for-profit"',
            ),
            (
                for_profit and self.keepers == "unlimited",
                '`incentive` is about what closes are worth; it needs keepers = "for-profit"',
            ),
        ]
