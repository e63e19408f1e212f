"""Rules that not every venue has, as a job states them under `[venue]`. What is left out does not exist in the simulation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.job_guards import BandEnd, GuardsSection, MarkParts
from calibrate.section import NotNegative, Positive, Section, Share


class BackstopSection(Section):
    """Who pays for bad debt beside the insurance fund. The fund pays at most `fund_cap_usd` at once, which grows back over
    `fund_cap_window_s` (never, without it); then the vault pays; then winners of the other side are deleveraged, if the venue
    does so (all alike or the most leveraged first, at the losers' bankruptcy price or at the mark price); and what is left is
    shared by all, after which nobody may withdraw for `withdrawals_stop_s`."""

    fund_cap_usd: Positive | None = None
    fund_cap_window_s: Positive | None = None
    vault_usd: Positive | None = None
    auto_deleveraging: bool = False
    deleveraging_order: Literal["all-alike", "most-leveraged"] = "all-alike"
    deleveraging_price: Literal["bankruptcy", "mark"] = "bankruptcy"
    withdrawals_stop_s: Positive | None = None

    @model_validator(mode="after")
    def _complete(self) -> "BackstopSection":
        if self.fund_cap_window_s is not None and self.fund_cap_usd is None:
            raise ValueError("`fund_cap_window_s` has no meaning without `fund_cap_usd`; add it or remove the window")
        how = (self.deleveraging_order, self.deleveraging_price)
        if how != ("all-alike", "bankruptcy") and not self.auto_deleveraging:
            raise ValueError("says how winners are deleveraged, and they are not; add `auto_deleveraging = true`")
        if not (self.fund_cap_usd or self.vault_usd or self.auto_deleveraging or self.withdrawals_stop_s):
            raise ValueError(
                "names no layer; give `fund_cap_usd`, `vault_usd`, `auto_deleveraging = true` or `withdrawals_stop_s`"
            )
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
    """How much a liquidation closes: a `fraction` of what is left, what brings equity back to `target_health` times the maintenance
    margin, or what brings it `buffer_bps` of notional above it. Of the latter no more than `initial_part` at first, and of all of
    it `ramp_s` later, where that is given. Accounts below `full_below_health` are closed in full, and so are those of which less
    than `dust_usd` would be left; touched ones rest for `cooldown_s`."""

    rule: Literal["fraction", "to-target", "to-buffer"]
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    target_health: Annotated[float, Field(gt=1, le=100)] | None = None
    buffer_bps: Annotated[float, Field(gt=0, lt=10_000)] | None = None
    initial_part: Annotated[float, Field(gt=0, le=1)] = 1.0
    ramp_s: Positive | None = None
    dust_usd: Positive | None = None
    full_below_health: Share = 0.0
    cooldown_s: NotNegative = 0.0

    @model_validator(mode="after")
    def _fits_rule(self) -> "CloseSection":
        if (self.fraction is not None) != (self.rule == "fraction"):
            raise ValueError('`fraction` belongs to rule = "fraction", and that rule needs it')
        if (self.target_health is not None) != (self.rule == "to-target"):
            raise ValueError('`target_health` belongs to rule = "to-target", and that rule needs it')
        if (self.buffer_bps is not None) != (self.rule == "to-buffer"):
            raise ValueError('`buffer_bps` belongs to rule = "to-buffer", and that rule needs it')
        if self.ramp_s is not None and self.rule != "to-buffer":
            raise ValueError('`ramp_s` belongs to rule = "to-buffer"; remove it')
        if (self.initial_part < 1) != (self.ramp_s is not None):
            raise ValueError("`initial_part` below 1 and `ramp_s` belong together; give both or neither")
        return self


class CloseCapSection(Section):
    """At most `most_usd` is closed at once, of all accounts; that grows back over `window_s`."""

    most_usd: Positive
    window_s: Positive


class BonusSection(Section):
    """The penalty rises as health falls: from the policy's to `highest_bps`, or from the part `lowest_part` of the policy's up to
    it. It does so between `from_health` and `to_health`, or from the former on by `rise_per_health` of notional for each unit of
    health. Health is equity over maintenance margin, or that of `lending`: collateral times threshold over debt."""

    highest_bps: Positive | None = None
    lowest_part: Annotated[float, Field(ge=0, lt=1)] | None = None
    health: Literal["margin", "lending"] = "margin"
    from_health: Annotated[float, Field(gt=0, le=1)] = 1.0
    to_health: Share | None = None
    rise_per_health: Positive | None = None

    @model_validator(mode="after")
    def _fits(self) -> "BonusSection":
        if (self.highest_bps is None) == (self.lowest_part is None):
            raise ValueError(
                "expected one of `highest_bps`, to which the policy's penalty rises, and `lowest_part`, from which part "
                "of it the penalty rises; give just one"
            )
        if (self.to_health is None) == (self.rise_per_health is None):
            raise ValueError(
                "expected one of `to_health`, where the penalty is highest, and `rise_per_health`; give just one"
            )
        if self.to_health is not None and self.to_health >= self.from_health:
            raise ValueError(
                f"`to_health` is {self.to_health:g} and `from_health` {self.from_health:g}; expected the first to be smaller"
            )
        if self.health == "lending" and self.to_health == 0:
            raise ValueError("`to_health` is 0, which no debt has in lending; expected more than 0")
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


class AuctionSection(Section):
    """What is liquidated is offered at a price that falls. It starts `start_bps` above the oracle price (below it, if negative) and
    falls in stairs by `fall_bps` every `fall_s`, or along a line to nothing within `zero_after_s`. After `reset_after_s`, or
    below `reset_below` of its start, an offer starts anew. At most `most_usd` is on offer at one time."""

    curve: Literal["stairs", "line"] = "stairs"
    start_bps: Annotated[float, Field(gt=-10_000, le=100_000)]
    fall_bps: Annotated[float, Field(gt=0, lt=10_000)] | None = None
    fall_s: Positive | None = None
    zero_after_s: Positive | None = None
    reset_after_s: Positive
    reset_below: Annotated[float, Field(gt=0, lt=1)] | None = None
    most_usd: Positive | None = None

    @model_validator(mode="after")
    def _fits_curve(self) -> "AuctionSection":
        stairs, line = (self.fall_bps, self.fall_s), (self.zero_after_s,)
        needed, unwanted = (stairs, line) if self.curve == "stairs" else (line, stairs)
        if None in needed or any(number is not None for number in unwanted):
            raise ValueError(
                'curve = "stairs" needs `fall_bps` and `fall_s`, curve = "line" needs `zero_after_s`, and neither has the other\'s'
            )
        if self.zero_after_s is not None and self.reset_after_s >= self.zero_after_s:
            raise ValueError(
                f"`reset_after_s` is {self.reset_after_s:g} and `zero_after_s` {self.zero_after_s:g}; expected the first to be "
                "smaller: an offer at no price is never made"
            )
        return self


class TriggerSection(Section):
    """Accounts are judged at the `oracle` price, that of the `market`, or a `mark` price; and `extra_bps` of notional (fees, a
    keeper's reward) are asked for on top of the maintenance margin. A mark price is the median of `mark_of`; the basis in it is an
    exponential average over `mark_basis_s` of how far the market is from the oracle. Where the oracle gives a band with its price,
    accounts are judged at the end that is the `worse` for them, or the `better` (`band_end`)."""

    price: Literal["oracle", "market", "mark"] = "oracle"
    extra_bps: NotNegative = 0.0
    mark_of: MarkParts | None = None
    mark_basis_s: Positive | None = None
    band_end: BandEnd | None = None

    @model_validator(mode="after")
    def _fits_price(self) -> "TriggerSection":
        parts = self.mark_of or []
        if (self.price == "mark") != bool(parts):
            raise ValueError('`mark_of` belongs to price = "mark", and that needs it')
        if len(set(parts)) < len(parts):
            raise ValueError("`mark_of` names a price twice; name each once")
        if ("oracle-and-basis" in parts) != (self.mark_basis_s is not None):
            raise ValueError("`mark_basis_s` belongs to `oracle-and-basis` in `mark_of`, and that needs it")
        if self.band_end is not None and self.price != "oracle":
            raise ValueError(
                f'`band_end` is an end of the oracle\'s band, and price = "{self.price}" has none; remove it'
            )
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
    auction: AuctionSection | None = None
    batch_s: Positive | None = None
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
        auction = self.auction is not None
        ranked = self.backstop is not None and self.backstop.deleveraging_order == "most-leveraged"
        beside_auction = None
        if self.incentive is not None:
            beside_auction = IncentiveSection(gas_volatility_exponent=self.incentive.gas_volatility_exponent)
        return [
            (auction and self.recheck, "what is on `auction` is not given back; it needs `recheck = false`"),
            (
                auction and self.keepers == "unlimited",
                'an `auction` is taken by whoever gains by it; it needs keepers = "for-profit"',
            ),
            (
                auction and (self.close is not None or self.close_cap is not None),
                "an `auction` cannot be combined with `close` or `close_cap`",
            ),
            (
                auction and self.incentive != beside_auction,
                "with an `auction` of `incentive` only `gas_volatility_exponent` has a meaning",
            ),
            (
                self.auction is not None and self.auction.most_usd is not None and self.margin_calls is not None,
                "`auction.most_usd` cannot be combined with `margin_calls`",
            ),
            (
                ranked and (auction or self.close is not None or self.margin_calls is not None),
                '`deleveraging_order = "most-leveraged"` cannot be combined with `auction`, `close` or `margin_calls`',
            ),
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


# The longer offers are, the more of them share a place: bad debt is overstated by a quarter at 140 steps (docs/rules.md, 9), and by
# how much beyond was not measured. Maker's take 240 steps of 30 s.
_MOST_STEPS_ON_OFFER = 240


def against_the_step(venue: VenueRules, step_s: float) -> list[tuple[str, str]]:
    """What of the rules cannot be followed at the simulation's step."""
    found, auction, batch_s = [], venue.auction, venue.batch_s
    if auction is not None and auction.reset_after_s > _MOST_STEPS_ON_OFFER * step_s:
        message = f"is {auction.reset_after_s:g} s, more than {_MOST_STEPS_ON_OFFER} steps of {step_s:g} s; make "
        message += f"`simulation.step_s` {auction.reset_after_s / _MOST_STEPS_ON_OFFER:g} or more, or offers shorter"
        found.append(("venue.auction.reset_after_s", message))
    if batch_s is not None and (batch_s < step_s or abs(batch_s / step_s - round(batch_s / step_s)) > 1e-9):
        message = f"is {batch_s:g} s; expected a whole number of steps of {step_s:g} s (`simulation.step_s`)"
        found.append(("venue.batch_s", message))
    return found
