"""What makes someone close an account, and at which price.

Without an incentive rule keepers get their share of a fixed penalty, pay a fixed gas, and the close is done in the market.
Here are the variations that venues run: a keeper's reward with a floor and a cap; gas that rises under congestion; a penalty
that grows as health falls; a penalty that grows while nobody takes it (a Dutch auction); a takeover at the oracle price; an order
that the venue itself sends to the book, up to a limit price. Whoever closes does so only at a profit: no more than what the
market absorbs before the displacement has eaten it up. `docs/rules.md`, section 6, states the rules.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from calibrate.extremes import clipped, larger
from calibrate.policy import Policy
from calibrate.units import CohortPath, PerPath, Scalar


class KeeperReward(eqx.Module):
    """The least and the most that keepers get per unit of notional, whatever their share of the penalty comes to. The fund makes
    up for what is missing, as long as it has money, and gets what is too much."""

    floor: Scalar
    cap: Scalar

    def rate(self, share: Scalar | PerPath) -> Scalar | PerPath:
        return clipped(share, self.floor, self.cap)

    def income_of_fund(self, policy: Policy, penalty: PerPath, notional: PerPath, fund: PerPath) -> PerPath:
        """What a step's penalties leave to the fund; negative where it tops keepers up."""
        keepers = clipped(policy.keeper_share * penalty, self.floor * notional, self.cap * notional)
        return larger(penalty - keepers, -fund)


class Congestion(eqx.Module):
    """Gas rises with volatility above its median, to the power `exponent`."""

    exponent: Scalar

    def gas(self, gas: Scalar, log_volatility: PerPath) -> PerPath:
        return gas * jnp.exp(self.exponent * larger(log_volatility, 0.0))


class HealthBonus(eqx.Module):
    """The penalty rises as health falls: from the policy's to `highest`, or from the part `lowest_part` of the policy's up to it,
    whichever is given. It begins to at `from_health` and has done so at `to_health`, or rises by `rise_per_health` for each unit
    of health. Health is equity over the maintenance margin; or, as in lending, the most debt over the debt, `(1 - m) / (1 - e)` at
    a maintenance margin `m` and an equity `e` of notional. In between the penalty is linear in equity."""

    from_health: Scalar
    to_health: Scalar | None = None
    rise_per_health: Scalar | None = None
    highest: Scalar | None = None
    lowest_part: Scalar | None = None
    lending: bool = eqx.field(static=True, default=False)

    def rates(self, penalty: Scalar) -> tuple[Scalar, Scalar]:
        """The lowest penalty and the highest, where the policy has `penalty`."""
        if self.lowest_part is not None:
            return self.lowest_part * penalty, penalty
        assert self.highest is not None
        return penalty, larger(self.highest, penalty)

    def equities(self, penalty: Scalar, required: PerPath | CohortPath) -> tuple[PerPath | CohortPath, ...]:
        """Equity over notional at which the penalty begins to rise, and at which it has, given the maintenance margin."""
        return tuple(self._equity(health, required) for health in (self.from_health, self._ends(penalty)))

    def _ends(self, penalty: Scalar) -> Scalar:
        if self.to_health is not None:
            return self.to_health
        assert self.rise_per_health is not None
        lowest, highest = self.rates(penalty)
        return self.from_health - (highest - lowest) / self.rise_per_health

    def _equity(self, health: Scalar, required: PerPath | CohortPath) -> PerPath | CohortPath:
        return 1 - (1 - required) / health if self.lending else health * required


class Takeover(eqx.Module):
    """Whoever closes takes the position over at the oracle price, less the penalty, and bears the price of selling it."""


class LimitOrder(eqx.Module):
    """The venue sells in the market itself, as far as the price stays within `limit` (in logs) of the oracle price."""

    limit: Scalar


class Incentive(eqx.Module):
    reward: KeeperReward | None = None
    congestion: Congestion | None = None
    bonus: HealthBonus | None = None
    fill: Takeover | LimitOrder | None = None

    @property
    def at_oracle_price(self) -> bool:
        return isinstance(self.fill, Takeover)


class Costs(NamedTuple):
    """Of closing a unit of notional: calm gas, and half the spread."""

    gas: Scalar
    half_spread: Scalar


def gas_now(incentive: Incentive | None, gas: Scalar, log_volatility: PerPath) -> Scalar | PerPath:
    """What gas costs at today's volatility."""
    if incentive is None or incentive.congestion is None:
        return gas
    return incentive.congestion.gas(gas, log_volatility)


Rates = tuple[Scalar | PerPath, Scalar | PerPath]


def room_for(
    incentive: Incentive | None, policy: Policy, penalty: Rates, costs: Costs, log_volatility: PerPath, ahead: PerPath
) -> Rates:
    """By how much the closes of longs and of shorts may move the price before they stop being worth while, as a log-price.
    `penalty` is what they yield, `ahead` the log-price of the market less that of the oracle."""
    if incentive is None:
        profit = policy.keeper_share * penalty[0] - costs.gas
        return profit, profit
    if isinstance(incentive.fill, LimitOrder):
        return incentive.fill.limit + ahead, incentive.fill.limit - ahead
    gas = gas_now(incentive, costs.gas, log_volatility)
    longs, shorts = (policy.keeper_share * rate for rate in penalty)
    if incentive.reward is not None:
        longs, shorts = incentive.reward.rate(longs), incentive.reward.rate(shorts)
    if incentive.at_oracle_price:
        return longs - gas - costs.half_spread + ahead, shorts - gas - costs.half_spread - ahead
    return longs - gas, shorts - gas
