"""What a path adds up: the money of closed accounts, who paid for losses, and the swings of the margin.

Each step's closes are entered here, and the deficits that they leave are met by the layers of the venue's backstop. The signed
distance to insolvency is kept along the way: how far losses went beyond the insurance fund, or how far they were from it.
"""

from typing import NamedTuple

import jax.numpy as jnp

from calibrate.closes import Closes
from calibrate.extremes import larger, smaller
from calibrate.policy import Policy
from calibrate.rise_windows import Window
from calibrate.rises import Rise, risen, start_rise
from calibrate.units import Index, PerPath, Scalar
from calibrate.venue import Venue
from calibrate.venue.backstop import Gate, Losers, Payments, Reserves, pay, start_reserves
from calibrate.venue.incentive import KeeperReward


class Tally(NamedTuple):
    """Running sums and extremes of a path, and what the backstop's layers have left."""

    bad_debt: PerPath
    insolvent_share: PerPath
    liquidated: PerPath
    liquidated_share: PerPath
    penalty: PerPath
    slippage: PerPath
    reserves: Reserves
    fund_draw: PerPath
    socialised_loss: PerPath
    margin_sum: PerPath
    margin_lowest: PerPath
    margin_highest: PerPath
    margin_rise: PerPath
    closest: PerPath
    distance: PerPath
    collateral_closed: PerPath
    pnl_closed: PerPath
    returned: PerPath
    vault_draw: PerPath | None
    adl_loss: PerPath | None
    adl_rate: PerPath | None
    fund_income: PerPath | None
    rises: tuple[Rise, ...]
    gate: Gate | None


def start_tally(venue: Venue, windows: tuple[Window, ...], like: PerPath) -> Tally:
    zero, huge = jnp.zeros_like(like), jnp.full_like(like, 1e9)
    backstop = venue.backstop
    vaulted = backstop is not None and backstop.vault is not None
    sums = {name: zero for name in Tally._fields if name not in ("reserves", "rises", "gate")}
    rises = tuple(start_rise(window, like) for window in windows)
    gate = None if backstop is None or backstop.gate is None else Gate(zero, zero)
    return Tally(**sums, gate=gate, reserves=start_reserves(venue.fund, backstop, like), rises=rises)._replace(
        margin_lowest=huge,
        closest=-huge,
        distance=-huge,
        vault_draw=zero if vaulted else None,
        adl_loss=zero if venue.deleverages else None,
        adl_rate=zero if venue.deleverages else None,
        fund_income=None if _reward(venue) is None else zero,
    )


def slippage_of(closes: Closes, mid: PerPath, undisturbed: PerPath) -> PerPath:
    """What owners lost because their closes met a spread and a price displaced by liquidations: net long share closed
    times the displacement, plus the spread. `sold` is at the mid price, `pnl` at the closing price."""
    net_share = closes.sold / mid
    return net_share * (undisturbed - 1) - closes.pnl


def tallied(
    tally: Tally,
    closes: Closes,
    slippage: PerPath,
    losers: tuple[Losers, Losers] | None,
    policy: Policy,
    required: PerPath,
    venue: Venue,
    dt: Scalar,
) -> tuple[Tally, Payments]:
    """Enter a step's closes and initial requirement, and let the backstop meet what the closes lack."""
    reward = _reward(venue)
    if reward is None:
        income = (1 - policy.keeper_share) * closes.penalty
    else:
        income = reward.income_of_fund(policy, closes.penalty, closes.notional, tally.reserves.fund)
    reserves = tally.reserves.grown(income, venue.backstop, dt)
    lowest = smaller(tally.margin_lowest, required)
    tally = tally._replace(
        insolvent_share=tally.insolvent_share + closes.insolvent_share,
        liquidated=tally.liquidated + closes.notional,
        liquidated_share=tally.liquidated_share + closes.share,
        penalty=tally.penalty + closes.penalty,
        slippage=tally.slippage + slippage,
        reserves=reserves,
        margin_sum=tally.margin_sum + required,
        margin_lowest=lowest,
        margin_highest=larger(tally.margin_highest, required),
        margin_rise=larger(tally.margin_rise, required - lowest),
        collateral_closed=tally.collateral_closed + closes.collateral,
        pnl_closed=tally.pnl_closed + closes.pnl,
        returned=tally.returned + closes.returned,
        fund_income=None if tally.fund_income is None else tally.fund_income + income,
    )
    tally, paid = _met(tally, closes.bad_debt, closes.distance, losers, policy, venue)
    if tally.gate is not None and venue.backstop is not None and venue.backstop.gate is not None:
        tally = tally._replace(gate=tally.gate.after(paid.others, venue.backstop.gate, dt))
    return tally, paid


def watched(tally: Tally, windows: tuple[Window, ...], required: PerPath, index: Index) -> Tally:
    """Enter a step's initial requirement in the windows within which its rises are watched."""
    rises = zip(tally.rises, windows, strict=True)
    return tally._replace(rises=tuple(risen(rise, window, required, index) for rise, window in rises))


def settled_at_the_end(
    tally: Tally,
    still_open: PerPath,
    nearest: PerPath,
    losers: tuple[Losers, Losers] | None,
    policy: Policy,
    venue: Venue,
) -> Tally:
    """The deficits of accounts that are open at the horizon are met as those of closed accounts are."""
    return _met(tally, still_open, nearest, losers, policy, venue)[0]


def _met(
    tally: Tally,
    deficit: PerPath,
    closest: PerPath,
    losers: tuple[Losers, Losers] | None,
    policy: Policy,
    venue: Venue,
) -> tuple[Tally, Payments]:
    bad_debt = tally.bad_debt + deficit
    closest = larger(tally.closest, closest)
    # Losses less what the fund has had to meet them. While there is no loss, how far the worst account is from one is added (it
    # is negative), so that the distance has no atom and moves smoothly through zero.
    distance = bad_debt - venue.fund - income_of_fund(tally, policy) + smaller(closest, 0.0)
    if tally.reserves.allowance is not None:
        # A loss that the fund may not pay is beyond it as much as one that it cannot.
        distance = larger(distance, deficit - tally.reserves.allowance + smaller(closest, 0.0))
    reserves, paid = pay(tally.reserves, deficit, losers)
    socialised_loss = tally.socialised_loss + deficit - paid.fund
    if venue.backstop is not None:
        # Several layers that pay all of a loss must leave nothing, whatever rounding does to their sum.
        socialised_loss = tally.socialised_loss + paid.others
    tally = tally._replace(
        bad_debt=bad_debt,
        closest=closest,
        distance=larger(tally.distance, distance),
        reserves=reserves,
        fund_draw=tally.fund_draw + paid.fund,
        socialised_loss=socialised_loss,
        vault_draw=_grown(tally.vault_draw, paid.vault),
        adl_loss=_grown(tally.adl_loss, paid.winners),
        adl_rate=_grown(
            tally.adl_rate, None if paid.deleveraged is None else paid.deleveraged[0] + paid.deleveraged[1]
        ),
    )
    return tally, paid


def _grown(total: PerPath | None, by: PerPath | None) -> PerPath | None:
    return None if total is None or by is None else total + by


def income_of_fund(tally: Tally, policy: Policy) -> PerPath:
    """What the insurance fund has got of the penalties so far."""
    return (1 - policy.keeper_share) * tally.penalty if tally.fund_income is None else tally.fund_income


def _reward(venue: Venue) -> KeeperReward | None:
    return None if venue.incentive is None else venue.incentive.reward
