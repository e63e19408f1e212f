"""The account-by-account simulator, held against numbers worked out by hand and against what must always be true.

The worked examples move the price by hand: constant volatility of 10 % a step, whose drift is set so that the
undisturbed log-price moves by exactly 0.1 z1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from brute_force import Accounts, Book, Rules, simulate, taken
from truth import Setting, loss, over_bands, passage_probability

STEP = 0.01  # years, so that a volatility of 1 moves the price by 10 % a step

BY_HAND = Rules(
    step_years=STEP,
    volatility=1.0,
    log_volatility_sd=0.0,
    reversion_per_year=50.0,
    leverage_correlation=0.0,
    jumps_per_year=0.0,
    jump_volatility_exponent=0.0,
    jump_up_probability=0.5,
    jump_up_mean=0.02,
    jump_down_mean=0.03,
    drift=0.5,  # makes up for the variance, so that x moves by 0.1 z1
    depth=1.0,
    depth_exponent=0.0,
    crossover=0.0,
    flow_weights=(0.5, 0.25, 0.25),
    flow_times_years=(STEP / math.log(2), STEP / math.log(4), math.inf),  # a half and a quarter are left each step
    oracle="exact",
    deviation=0.005,
    heartbeat_years=3 * STEP,
    oracle_delay_steps=0,
    memory_years=0.1,
    horizon_of_margin_years=STEP,
    base=0.05,
    multiplier=0.0,
    floor=0.0,
    lowest=0.0,
    highest=1.0,
    allowance=0.0,
    initial_ratio=2.0,
    keeper_delay_steps=0,
    recheck=False,
    unlimited_keepers=True,
    penalty=0.02,
    keeper_share=0.5,
    gas=0.0,
    half_spread=0.0,
    fund=0.0,
)

LIVELY = replace(
    BY_HAND,
    volatility=1.2,
    step_years=1 / 8760,
    log_volatility_sd=0.5,
    leverage_correlation=-0.4,
    jumps_per_year=500.0,
    jump_volatility_exponent=1.0,
    jump_up_mean=0.04,
    jump_down_mean=0.06,
    drift=0.1,
    depth=0.05,
    depth_exponent=1.0,
    crossover=0.01,
    flow_times_years=(2 / 8760, 24 / 8760, math.inf),
    heartbeat_years=4 / 8760,
    memory_years=24 / 8760,
    horizon_of_margin_years=2 / 8760,
    base=0.005,
    multiplier=2.0,
    lowest=0.005,
    highest=0.2,
    allowance=1.0,
    keeper_delay_steps=1,
    gas=0.002,
    half_spread=0.001,
    fund=0.0001,
)

VARIANTS = {
    "patient": LIVELY,
    "rechecking": replace(LIVELY, recheck=True, oracle="push", oracle_delay_steps=2),
    "for profit": replace(LIVELY, unlimited_keepers=False, depth=0.3),
    "rechecking for profit": replace(LIVELY, recheck=True, unlimited_keepers=False, depth=0.3),
    "continuous": replace(LIVELY, oracle="continuous", keeper_delay_steps=0),
}


def longs_and_shorts(count: int, responds: bool = False) -> Accounts:
    """Half longs, half shorts, collateral from 3 to 30 %, three cohorts, weights of every size."""
    rng = np.random.default_rng(5)
    weight = rng.exponential(size=count)
    return Accounts(
        side=np.where(np.arange(count) % 2 == 0, 1, -1),
        collateral=rng.uniform(0.03, 0.3, size=count),
        weight=weight / weight.sum(),
        cohort=rng.integers(0, 3, size=count),
        responds=responds,
        reference_margin=0.06,
    )


def draws(paths: int, steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    uniform = {name: rng.uniform(size=(steps, paths)) for name in ("u", "u_low", "u_high")}
    normal = {name: rng.standard_normal((steps, paths)) for name in ("z1", "z2")}
    return {"z0": rng.standard_normal(paths)} | normal | uniform


def along(rules: Rules, accounts: Accounts, log_prices: list[float], **uniforms: list[float]) -> dict[str, float]:
    """Outcome of one path whose undisturbed log-price takes the given values at steps 1, 2, ..."""
    z1 = np.diff([0.0, *log_prices])[:, None] / 0.1
    still = np.zeros_like(z1)
    of_path = {name: np.array(values)[:, None] for name, values in uniforms.items()}
    outcome = simulate(rules, accounts, np.zeros(1), z1, still, still + 0.5, **of_path)
    return {name: values[0].item() for name, values in outcome.items()}


def book(*rows: tuple[int, float, float, int], **fields: float) -> Accounts:
    """Accounts from rows of side, collateral, weight, cohort."""
    side, collateral, weight, cohort = map(np.array, zip(*rows, strict=True))
    return Accounts(side=side, collateral=collateral, weight=weight, cohort=cohort, **fields)


def assert_outcome(outcome: dict[str, float], expected: dict[str, float]) -> None:
    assert {name: outcome[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-14)


# Worked by hand


def test_a_long_and_a_short_are_closed_as_worked_out_by_hand():
    rules = replace(BY_HAND, depth=0.30375, half_spread=0.01, keeper_delay_steps=1, fund=0.001)
    accounts = book((1, 0.10, 0.6, 0), (-1, 0.10, 0.4, 0))
    # Step 1, price 0.94: the long has 0.10 - 0.06 = 0.04 < 0.05 * 0.94 = 0.047, so keepers set out; the short has 0.16.
    # Step 2, price 0.90: the long sells v = 0.6 * 0.90 = 0.54 into no flow. Half of it is 0.27 = 8/9 D, which displaces
    #   by 0.02 sqrt(8/9) = 0.01886, so it is closed at E = 0.90 * 0.99 exp(-0.01886) = 0.8744 with 0.10 - 0.1256 =
    #   -0.0256. The fund has 0.001 against 0.6 * 0.0256. The flow grows by 0.54, in parts 0.27, 0.135, 0.135.
    # Step 3: the parts decay to 0.135, 0.03375, 0.135, in all 0.30375 = D, which displaces by 2 %. At the price 1.06
    #   the short has 0.10 - 0.06 = 0.04 < 0.05 * 1.06 = 0.053, so keepers set out.
    # Step 4: the parts decay to 0.0675, 0.0084375, 0.135, in all 0.2109375 = 25/36 D, which displaces by 2 % * 5/6 =
    #   1/60. At the price 1.05 the short buys 0.4 * 1.05 = 0.42. Half of it leaves a flow of 0.0009375 = D / 324, which
    #   displaces by 2 % / 18 = 1/900, 14/900 less. So it is closed at E = 1.05 * 1.01 exp(14/900) = 1.0771 with 0.10 -
    #   0.0771 = 0.0229. That covers the 0.02 * 1.0771 = 0.0215 which it pays, half to keepers and half to the fund, too
    #   late for the bad debt of step 2.
    # At the end the long would have 0.10 + 0.05 and meet 0.0525, the short 0.10 - 0.05 = 0.05 would not.
    sold_at = 0.90 * 0.99 * math.exp(-0.02 * math.sqrt(8 / 9))
    bought_at = 1.05 * 1.01 * math.exp(14 / 900)
    bad_debt = 0.6 * (1 - sold_at - 0.10)
    outcome = along(rules, accounts, [math.log(0.94), math.log(0.90), math.log(1.06) + 0.02, math.log(1.05) + 1 / 60])
    assert outcome == pytest.approx(
        {
            "bad_debt": bad_debt,
            "open_deficit": 0.0,
            "insolvent_share": 0.6,
            "liquidated": 0.6 * sold_at + 0.4 * bought_at,
            "liquidated_share": 1.0,
            "topped_up": 0.0,
            "stopped_years": 0.0,
            "penalty": 0.4 * 0.02 * bought_at,
            "keeper_income": 0.2 * 0.02 * bought_at,
            "fund_income": 0.2 * 0.02 * bought_at,
            "slippage": 0.6 * (0.90 - sold_at) - 0.4 * (1.05 * math.exp(1 / 60) - bought_at),
            "fund_draw": 0.001,
            "vault_draw": 0.0,
            "adl_loss": 0.0,
            "adl_rate": 0.0,
            "socialised_loss": bad_debt - 0.001,
            "insolvent": True,
            "false_liquidation": 0.6,
            "returned": 0.4 * (0.10 + 1 - bought_at - 0.02 * bought_at),
            "collateral_closed": 0.1,
            "pnl_closed": 0.6 * (sold_at - 1) + 0.4 * (1 - bought_at),
            "margin_mean": 0.10,
            "final_log_price": math.log(1.05),
            "margin_peak_to_trough": 1.0,
            "margin_rise": 0.0,
        },
        rel=1e-12,
        abs=1e-14,
    )


def test_losses_pass_through_the_layers_as_worked_out_by_hand():
    # The long of 0.3 has 0.10 - 0.20 at the price 0.80 and lacks 0.03 in all. The fund of 0.02 may pay 0.005 of it, the vault
    # pays 0.007. Of the other 0.018, six tenths of the loss and so of the position, 0.18, shorts of 0.12 take over
    # two thirds: they lose 0.012 and everything they had; 0.006 is left to all others. The market has to absorb 0.18 less.
    rules = replace(BY_HAND, fund=0.02, fund_cap=0.005, fund_cap_refill_per_year=0.1, vault=0.007, deleverages=True)
    accounts = book((1, 0.10, 0.3, 0), (1, 0.30, 0.58, 0), (-1, 0.10, 0.12, 0))
    first = {"bad_debt": 0.03, "fund_draw": 0.005, "vault_draw": 0.007, "adl_loss": 0.012, "adl_rate": 0.12,
             "socialised_loss": 0.006, "liquidated_share": 0.3}  # fmt: skip
    deep = replace(rules, depth=1e30)
    assert_outcome(along(deep, accounts, [math.log(0.8)]), first)
    # A step of 0.01 years lets the fund pay 0.001 again: the second long lacks 0.58 * 0.02 at 0.68, and no short is left.
    second = {"bad_debt": 0.03 + 0.0116, "fund_draw": 0.006, "adl_rate": 0.12, "socialised_loss": 0.006 + 0.0106}
    assert_outcome(along(deep, accounts, [math.log(0.8), math.log(0.68)]), second)
    # (0.3 - 0.12) * 0.8 are sold, of which 9/16 are left a step later; they would be 9/16 D.
    shallow = replace(rules, depth=0.144 * 4, half_spread=0.0)
    displaced = 0.02 * math.sqrt(0.144 * 9 / 16 / 0.576)
    sold = 0.3 * (0.8 * (1 - math.exp(-0.02 * math.sqrt(0.12 / 0.576))))
    shifted = along(shallow, accounts, [math.log(0.8), math.log(0.8)])
    taken_over = 0.12
    assert shifted["bad_debt"] == pytest.approx(0.03 + sold)
    assert shifted["adl_rate"] == pytest.approx(taken_over)
    assert shifted["final_log_price"] == pytest.approx(math.log(0.8) - displaced)


def test_whoever_has_had_the_time_tops_up_a_part():
    # Warned below twice the margin: at 0.95 a collateral of 0.10 leaves 0.05 < 0.1 * 0.95, one of 0.16 leaves 0.11, at 0.90 0.06
    # < 0.09. A step later three tenths of each have topped up. At 0.90 the first has nothing left and is closed, as far as it has
    # not: 0.7 of 0.4. Without the time to respond it would have been closed whole.
    accounts = book((1, 0.10, 0.4, 0), (1, 0.16, 0.6, 0))
    rules = replace(BY_HAND, warning=2.0, top_up=0.3, response_steps=1)
    path = [math.log(0.95), math.log(0.90), math.log(0.90)]
    for steps, shares in ((1, (0.0, 0.0)), (2, (0.12, 0.28)), (3, (0.3, 0.28))):
        outcome = along(replace(rules, depth=1e30), accounts, path[:steps])
        assert_outcome(outcome, dict(zip(("topped_up", "liquidated_share"), shares, strict=True)))


def test_an_offer_is_taken_once_it_is_worth_it():
    # Liquidatable at 0.90, where 0.10 leaves nothing; offered at 1.02 times the oracle's 0.90, which nobody takes.
    # A step later 0.99 * 0.90 = 0.891 is asked for it: the market may sink by log(0.90 / 0.891) = 0.01005, for which (0.01005 /
    # 0.02)^2 of the depth is sold, of 0.3 * 0.90. It is closed at 0.891 and lacks 0.009.
    accounts = book((1, 0.10, 0.3, 0), (1, 0.30, 0.7, 0))
    rules = replace(BY_HAND, unlimited_keepers=False, auction=(math.log(1.02), math.log(0.99)), half_spread=0.0)
    first = along(rules, accounts, [math.log(0.9)])
    assert_outcome(first, {"liquidated_share": 0.0, "topped_up": 0.0})
    part = (math.log(0.90 / 0.891) / 0.02) ** 2 / 0.27
    second = along(rules, accounts, [math.log(0.9)] * 2)
    assert_outcome(second, {"liquidated_share": 0.3 * part, "liquidated": 0.3 * part * 0.891})
    assert second["bad_debt"] - second["open_deficit"] == pytest.approx(0.3 * part * 0.009)
    # At the third step it starts anew, at 1.02 times the price of that step: nobody takes it.
    third = along(rules, accounts, [math.log(0.9)] * 3)
    assert_outcome(third, {"liquidated_share": 0.3 * part})


def test_offers_share_the_market_as_far_as_they_are_worth_it():
    # Of 0.2 worth a flow of 0.1 and 0.3 worth one of 0.3, at a price of 1: the first 0.1 is shared by 0.5, a fifth of each;
    # the other 0.2 is the second's, two thirds of it. A third offer is worth nothing; with 0.6 for the second all of it is taken.
    accounts = book((1, 0.10, 0.2, 0), (1, 0.20, 0.3, 0), (1, 0.30, 0.1, 0), (1, 0.90, 0.4, 0))
    for room, parts in ((0.3, (0.2, 0.2 + 2 / 3)), (0.6, (0.2, 1.0))):
        offered = Book(accounts, steps=1, requirement=np.full(4, 0.1))
        offered.offered[:3], offered.offered_at[:3] = True, (1, 2, 3)
        closed = taken(offered, 1, np.array([0.1, room, 0.0, 0.0]), 1.0)
        np.testing.assert_allclose(closed, [0.2 * parts[0], 0.3 * parts[1], 0.0, 0.0], rtol=1e-12)
        np.testing.assert_allclose(offered.open_share + closed, offered.weight)


def test_keepers_who_look_again_leave_a_sound_account_alone():
    rules = replace(BY_HAND, keeper_delay_steps=1, recheck=True)
    accounts = book((-1, 0.10, 1.0, 0))
    # At 1.06 it has 0.04 < 0.053; at 1.04 it has 0.06 and meets 0.052 again; at 1.05 it has 0.05 < 0.0525.
    assert along(rules, accounts, [math.log(1.06), math.log(1.04)])["liquidated_share"] == 0.0
    assert along(rules, accounts, [math.log(1.06), math.log(1.05)])["liquidated_share"] == 1.0


@pytest.mark.parametrize(
    ("recheck", "expected"),
    [(False, [0, 0, 1, 1]), (True, [0, 0, 0, 1])],
)
def test_keepers_come_after_their_delay_and_not_before(recheck, expected):
    # The price is bad at steps 1, 2 and 4 only; a delay of 2 looks at the pairs (1, 3) and (2, 4).
    rules = replace(BY_HAND, keeper_delay_steps=2, recheck=recheck)
    prices = [math.log(1.07), math.log(1.07), 0.0, math.log(1.07)]
    shares = [along(rules, book((-1, 0.10, 1.0, 0)), prices[:n])["liquidated_share"] for n in (1, 2, 3, 4)]
    assert shares == expected


def test_keepers_for_profit_stop_where_the_price_moves_too_far():
    # Half of 2 % less gas leaves e = 0.005 = Y / 4, so V* = D / 16 = 0.05 at crossover 0, where Y = 0.02. Longs
    # eligible at 0.90: cohort 0 has 0.05 at c = 0.12 and 0.10 at c = 0.13, cohort 1 has 0.05 at c = 0.14: 0.2 * 0.90 =
    # 0.18 at the market price. The allowed part is 0.05 / 0.18 = 5/18 of each cohort: 0.15 * 5/18 = 0.75/18 from
    # cohort 0, less than its first account; 0.25/18 from cohort 1. Those 0.05 displace by e, half of them by e / sqrt(2)
    # = 0.00354, so E = 0.90 exp(-0.00354) = 0.8968. At c = 0.12 the equity of 0.0168 is less than 2 % of E = 0.0179, so
    # all of it is paid; at c = 0.14 there is 0.0368, enough.
    rules = replace(BY_HAND, depth=0.8, unlimited_keepers=False, gas=0.005)
    accounts = book((1, 0.13, 0.10, 0), (1, 0.14, 0.05, 1), (1, 0.12, 0.05, 0), (-1, 0.5, 0.8, 0))
    sold_at = 0.90 * math.exp(-0.005 / math.sqrt(2))
    first = along(rules, accounts, [math.log(0.90)])
    assert_outcome(
        first,
        {
            "liquidated_share": 1 / 18,
            "liquidated": sold_at / 18,
            "collateral_closed": (0.75 * 0.12 + 0.25 * 0.14) / 18,
            "penalty": (0.75 * (0.12 + sold_at - 1) + 0.25 * 0.02 * sold_at) / 18,
            "bad_debt": 0.0,
        },
    )
    # Next step the parts of the flow have decayed to 0.0125, 0.003125, 0.0125. The last is permanent; the other two,
    # 0.015625, leave keepers room to sell 0.05 - 0.015625 = 0.034375. Displaced by all three, 0.028125, by 0.02 *
    # sqrt(0.028125 / 0.8) = 0.00375 the price is held at 0.90. Of 0.2 - 1/18 = 2.6/18 still open (cohort 0: 0.15/18 at
    # c = 0.12 and 0.10; cohort 1: 0.65/18), at the price 0.13, the fraction is 0.034375 / 0.13. Cohort 0 closes the
    # rest of its first account, then some of its second. With half of the closes the flow is 0.028125 + 0.0171875 =
    # 0.0453125 = 29/512 D, so E is 0.02 sqrt(29/512) - 0.00375 = 0.00101 in logs below the price.
    second = along(rules, accounts, [math.log(0.90), math.log(0.90) + 0.00375])
    fraction = 0.034375 / 0.13
    from_second_account = fraction * (0.15 / 18 + 0.10) - 0.15 / 18
    more_collateral = 0.15 / 18 * 0.12 + from_second_account * 0.13 + fraction * 0.65 / 18 * 0.14
    assert_outcome(
        second,
        {
            "liquidated": sold_at / 18 + 0.034375 * math.exp(0.00375 - 0.02 * math.sqrt(29 / 512)),
            "liquidated_share": 1 / 18 + fraction * 2.6 / 18,
            "collateral_closed": first["collateral_closed"] + more_collateral,
        },
    )


def test_selling_leaves_keepers_more_room_to_buy():
    # e = 0.01 = Y / 2, so V* = D / 4 = 0.05. The long closed at 0.90 sells 0.05, which displaces by e; half of it by
    # e / sqrt(2). One step later 0.0125 + 0.003125 is left of what passes and 0.0125 of what stays: 0.05 + 0.015625 of
    # the short may be bought at 1.07 - displaced by all 0.028125, by 0.02 * sqrt(0.028125 / 0.2) = 0.0075. Half of the
    # 0.065625 bought turns the flow into 0.028125 - 0.0328125 = -0.0046875 = -3/128 D, which raises the price by
    # 0.02 sqrt(3/128) where 0.0075 lowered it.
    rules = replace(BY_HAND, depth=0.2, unlimited_keepers=False)
    accounts = book((1, 0.14, 0.05 / 0.90, 0), (-1, 0.10, 0.5, 0))
    outcome = along(rules, accounts, [math.log(0.90), math.log(1.07) + 0.0075])
    sold = 0.05 * math.exp(-0.01 / math.sqrt(2))
    bought = 0.065625 * math.exp(0.0075 + 0.02 * math.sqrt(3 / 128))
    assert_outcome(outcome, {"liquidated": sold + bought, "final_log_price": math.log(1.07)})


def test_keepers_whose_gas_exceeds_their_share_do_not_come():
    rules = replace(BY_HAND, unlimited_keepers=False, gas=0.011)
    outcome = along(rules, book((1, 0.10, 0.5, 0), (-1, 0.5, 0.5, 0)), [math.log(0.80)])
    # Still open at 0.80 the long owes 0.5 * 0.10, which nobody has set aside.
    assert_outcome(outcome, {"liquidated_share": 0.0, "bad_debt": 0.05, "open_deficit": 0.05, "socialised_loss": 0.05})
    assert outcome["insolvent"] is True


@pytest.mark.parametrize(("side", "price"), [(1, 0.90), (-1, 1.10)])
def test_closed_longs_push_the_price_down_and_closed_shorts_up(side, price):
    # With eps = 9/16: Y = 0.02 / (5/4 - 3/4) = 0.04. Half the open interest is closed at the price, of which 0.5 / 2 +
    # 0.25 / 4 + 0.25 = 9/16 is left a step later. With D = 16/7 of that it displaces by 0.04 * (1 - 3/4) = 0.01.
    rules = replace(BY_HAND, crossover=9 / 16, depth=0.5 * price * 9 / 16 * 16 / 7)
    outcome = along(rules, book((side, 0.10, 0.5, 0), (-side, 0.5, 0.5, 0)), [math.log(price), math.log(price)])
    assert_outcome(outcome, {"final_log_price": math.log(price) - side * 0.01})


@pytest.mark.parametrize("side", [1, -1])
def test_closes_of_a_step_pay_half_of_what_they_displace_together(side):
    # Step 1: the price touches exp(-+0.05) as in the test of continuous monitoring, below; keepers set out for c = 0.09
    #   on both sides (due at 0.91 / 0.95 = 0.9579 and 1.09 / 1.05 = 1.0381), not for c = 0.15.
    # Step 2, at -+20 %: 0.45 of the one side and 0.10 of the other are closed, 0.35 net. Half of that is 0.175 = 7/16 D
    #   at the price, which with eps = 9/16 displaces by 0.04 * (1 - 3/4) = 0.01: against the many, in favour of the few.
    #   Each side pays its own spread of 1 %. The many owe, the few pay their penalty.
    # What is still open owes too, at the price less the spread, which the closes have not moved yet.
    price = 1 - side * 0.2
    rules = replace(BY_HAND, oracle="continuous", keeper_delay_steps=1)
    rules = replace(rules, crossover=9 / 16, depth=0.4 * price, half_spread=0.01)
    accounts = book((side, 0.09, 0.45, 0), (-side, 0.09, 0.10, 0), (side, 0.15, 0.45, 0))
    touch = [math.exp(-0.5)] * 2
    outcome = along(rules, accounts, [0.0, math.log(price)], u_low=touch, u_high=touch)
    many = price * math.exp(-side * 0.01) * (1 - side * 0.01)
    few = price * math.exp(-side * 0.01) * (1 + side * 0.01)
    open_deficit = 0.45 * (side * (1 - price * (1 - side * 0.01)) - 0.15)
    assert_outcome(
        outcome,
        {
            "liquidated": 0.45 * many + 0.10 * few,
            "bad_debt": 0.45 * (side * (1 - many) - 0.09) + open_deficit,
            "open_deficit": open_deficit,
            "penalty": 0.10 * 0.02 * few,
            "final_log_price": math.log(price),
        },
    )


def test_depth_shrinks_with_the_volatility_the_step_starts_from():
    # Nothing moves but y, which halves each step from 0.5. The long is closed at 1, selling 0.5; 9/16 of it is left.
    half_a_step = math.log(2) / STEP
    rules = replace(BY_HAND, volatility=0.0, drift=0.0, initial_log_volatility=0.5, reversion_per_year=half_a_step)
    rules = replace(rules, depth_exponent=2.0)
    outcome = along(rules, book((1, 0.04, 0.5, 0), (-1, 0.5, 0.5, 0)), [0.0, 0.0])
    depth = math.exp(-2.0 * 0.25)
    assert_outcome(outcome, {"final_log_price": -0.02 * math.sqrt(0.5 * 9 / 16 / depth)})


@pytest.mark.parametrize(("delay", "closed_at_step"), [(0, 2), (1, 3), (2, 4)])
def test_a_push_oracle_reports_a_deviation_after_its_delay(delay, closed_at_step):
    # Liquidatable below O = 0.90 / 0.95 = 0.947. A move to 0.96 (4.1 %) passes unseen under a deviation of 5 %, the
    # next to 0.94 (6.2 % in all) is reported at step 2.
    rules = replace(BY_HAND, oracle="push", deviation=0.05, heartbeat_years=1.0, oracle_delay_steps=delay)
    prices = [math.log(0.96), *[math.log(0.94)] * 4]
    shares = [along(rules, book((1, 0.10, 1.0, 0)), prices[:n])["liquidated_share"] for n in range(1, 6)]
    assert shares == [float(n >= closed_at_step) for n in range(1, 6)]


def test_a_push_oracle_reports_when_its_heartbeat_is_due():
    # Too small a move to report (5.6 % under a deviation of 10 %), seen at step 3 when the heartbeat is due.
    rules = replace(BY_HAND, oracle="push", deviation=0.1, heartbeat_years=3 * STEP)
    shares = [along(rules, book((1, 0.10, 1.0, 0)), [math.log(0.945)] * n)["liquidated_share"] for n in range(1, 6)]
    assert shares == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_push_oracle_counts_deviation_and_age_from_its_last_report():
    # 0.94 is reported at once; 0.90 is 4.4 % below it, too little, and the heartbeat is due three steps later, at 4.
    # The long is due below 0.865 / 0.95 = 0.9105.
    rules = replace(BY_HAND, oracle="push", deviation=0.05, heartbeat_years=3 * STEP)
    prices = [math.log(0.94), *[math.log(0.90)] * 3]
    shares = [along(rules, book((1, 0.135, 1.0, 0)), prices[:n])["liquidated_share"] for n in range(1, 5)]
    assert shares == [0.0, 0.0, 0.0, 1.0]


def test_continuous_monitoring_sees_the_lowest_and_the_highest_price_within_the_step():
    # No net move; 2 sigma^2 dt = 0.02, so u = exp(-0.5) gives extremes of -+ sqrt(0.01) / 2 = 0.05.
    # exp(-0.05) = 0.9512: the long with c = 0.09 is due below 0.91 / 0.95 = 0.9579, that with c = 0.10 below 0.9474.
    # exp(0.05) = 1.0513: the short with c = 0.10 is due above 1.10 / 1.05 = 1.0476, that with c = 0.11 above 1.0571.
    rules = replace(BY_HAND, oracle="continuous", depth=math.inf)
    accounts = book((1, 0.09, 0.1, 0), (1, 0.10, 0.2, 0), (-1, 0.10, 0.3, 0), (-1, 0.11, 0.4, 0))
    both = along(rules, accounts, [0.0], u_low=[math.exp(-0.5)], u_high=[math.exp(-0.5)])
    # Closed without impact at the price of the step's end, 1, where each meets maintenance: all false, each pays 2 %.
    assert_outcome(both, {"liquidated_share": 0.4, "false_liquidation": 0.4, "penalty": 0.02 * 0.4, "bad_debt": 0.0})
    low_only = along(rules, accounts, [0.0], u_low=[math.exp(-0.5)], u_high=[0.999])
    assert_outcome(low_only, {"liquidated_share": 0.1})


@pytest.mark.parametrize("side", [1, -1])
def test_the_extremes_within_a_step_are_displaced_with_the_price(side):
    # Step 1, at -+10 %: half the open interest is closed; 9/16 of it is left at step 2. With D = 16 times that, the
    # displacement is 0.02 / 4 = 0.005, over the whole of step 2, whose extreme lies 0.05 further (u = exp(-0.5)).
    price = 1 - side * 0.1
    rules = replace(BY_HAND, oracle="continuous", depth=0.5 * price * 9)
    seen = price * math.exp(-side * 0.055)
    just_due = side * (1 - seen) + 0.05 * seen

    def closed(collateral: float) -> float:
        accounts = book((side, 0.10, 0.5, 0), (side, collateral, 0.5, 0))
        uniform = [1 - 1e-16, math.exp(-0.5)]
        return along(rules, accounts, [math.log(price)] * 2, u_low=uniform, u_high=uniform)["liquidated_share"]

    assert closed(just_due - 1e-9) == 1.0
    assert closed(just_due + 1e-9) == 0.5


# With a jump in every step (q = 1), u = 1/4 halves the tail of the up-jumps and u = 3/4 that of the down-jumps.
JUMPY = replace(BY_HAND, oracle="continuous", jumps_per_year=1 / STEP)
COMPENSATOR = (0.02 / 0.98 - 0.03 / 1.03) / 2
JUMPS = [(-1, 0.25, 0.02 * math.log(2)), (1, 0.75, -0.03 * math.log(2))]  # side that it hurts, u, jump


def jumped(accounts: Accounts, u: float, u_extreme: float) -> dict[str, float]:
    still, extreme = np.zeros((1, 1)), np.full((1, 1), u_extreme)
    outcome = simulate(JUMPY, accounts, np.zeros(1), still, still, still + u, extreme, extreme)
    return {name: values[0].item() for name, values in outcome.items()}


@pytest.mark.parametrize(("side", "u", "jump"), JUMPS)
def test_a_jump_is_seen_at_the_end_of_the_step(side, u, jump):
    seen = math.exp(jump - COMPENSATOR)
    just_due = side * (1 - seen) + 0.05 * seen
    for collateral, share in [(just_due - 1e-9, 1.0), (just_due + 1e-9, 0.0)]:
        outcome = jumped(book((side, collateral, 1.0, 0)), u, 1 - 1e-16)
        assert_outcome(outcome, {"final_log_price": jump - COMPENSATOR, "liquidated_share": share})


@pytest.mark.parametrize(("side", "u"), [(1, 0.25), (-1, 0.75)])
def test_a_jump_to_the_other_side_leaves_the_bridge_as_it_was(side, u):
    # The bridge goes from 0 to -COMPENSATOR; 2 sigma^2 dt = 0.02 and u = exp(-0.5).
    extreme = (-COMPENSATOR - side * math.sqrt(COMPENSATOR**2 + 0.01)) / 2
    seen = math.exp(extreme)
    just_due = side * (1 - seen) + 0.05 * seen
    for collateral, share in [(just_due - 1e-9, 1.0), (just_due + 1e-9, 0.0)]:
        assert_outcome(jumped(book((side, collateral, 1.0, 0)), u, math.exp(-0.5)), {"liquidated_share": share})


def test_the_margin_follows_the_variance_the_oracle_shows():
    # w = exp(-0.01 / 0.1) = exp(-0.1). v_0 = 1; a return of 0.2 in a step has a variance of 0.04 / 0.01 = 4.
    rules = replace(BY_HAND, base=0.01, multiplier=0.5, allowance=1.0)
    w = math.exp(-0.1)
    v1 = w * 1 + (1 - w) * 4
    v2 = w * v1
    v3 = w * v2 + (1 - w) * 4
    m1, m2, m3 = (0.01 + 0.5 * math.sqrt(v * STEP) + 0.02 for v in (v1, v2, v3))
    outcome = along(rules, book((1, 0.9, 1.0, 0)), [0.2, 0.2, 0.0])
    assert_outcome(
        outcome,
        {
            "margin_mean": 2 * (m1 + m2 + m3) / 3,
            "margin_peak_to_trough": max(m1, m3) / m2,
            "margin_rise": 2 * (m3 - m2),
        },
    )


def test_stressed_volatility_takes_its_share_of_the_forecast():
    # The forecast volatilities after returns of 0.2 and 0 are the roots of v1 and v2 above; 3 is the stressed one, so the
    # margin adds 0.5 * (0.75 sqrt(v) + 0.25 * 3) * sqrt(0.01), the root of the horizon of one step, to 0.01.
    rules = replace(BY_HAND, base=0.01, multiplier=0.5, stress_weight=0.25, stressed_volatility=3.0)
    w = math.exp(-0.1)
    v1 = w * 1 + (1 - w) * 4
    m1, m2 = (0.01 + 0.05 * (0.75 * math.sqrt(v) + 0.75) for v in (v1, w * v1))
    outcome = along(rules, book((1, 0.9, 1.0, 0)), [0.2, 0.2])
    assert_outcome(outcome, {"margin_mean": m1 + m2, "margin_peak_to_trough": m1 / m2})
    # Accounts that respond are opened at the requirement of step 0, 2 * (0.01 + 0.05 * (0.75 + 0.75)) = 0.17.
    start = along(rules, book((1, 0.17, 1.0, 0), responds=True, reference_margin=0.17), [math.log(0.8)])
    assert_outcome(start, {"collateral_closed": 0.17})


def test_the_margin_rises_and_falls_no_faster_than_it_may():
    # A rise of 0.4 and a fall of 0.15 a year are 0.004 and 0.0015 a step. The formula asks for 0.05 sqrt(v): 0.05 at the start,
    # 0.0567 after a return of 0.2, then 0.0539, 0.0513 and 0.0488, and for more than 0.056 after a return of 0.3. So the margin
    # is 0.054, what is asked for, twice 0.0015 less, and 0.004 more.
    rules = replace(BY_HAND, base=0.0, multiplier=0.5, rise_per_year=0.4, fall_per_year=0.15)
    w = math.exp(-0.1)
    second = 0.05 * math.sqrt(w * (w * 1 + (1 - w) * 4))
    margins = [0.054, second, second - 0.0015, second - 0.003, second + 0.001]
    outcome = along(rules, book((1, 0.9, 1.0, 0)), [0.2, 0.2, 0.2, 0.2, 0.5])
    assert_outcome(
        outcome,
        {
            "margin_mean": 2 * sum(margins) / 5,
            "margin_peak_to_trough": (second + 0.001) / (second - 0.003),
            "margin_rise": 2 * 0.004,
        },
    )


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [({"floor": 0.3}, 0.32), ({"lowest": 0.4}, 0.4), ({"highest": 0.03}, 0.03), ({}, 0.07)],
)
def test_the_margin_keeps_its_bounds(bounds, expected):
    # The formula alone gives 0.05, and the penalty's allowance of 0.02 comes on top of the floor but within the limits.
    rules = replace(BY_HAND, allowance=1.0, **bounds)
    assert_outcome(along(rules, book((1, 0.9, 1.0, 0)), [0.0]), {"margin_mean": 2 * expected})


def test_the_margin_starts_at_the_variance_of_diffusion_and_jumps():
    # v_0 = (2 * 0.5 * e^0.3)^2 + 4 e^0.6 * 2 (0.04^2 + 0.06^2) / 2, of which exp(-0.1) is left after a still step.
    rules = replace(
        BY_HAND,
        volatility=0.5,
        scale=2.0,
        initial_log_volatility=0.3,
        jumps_per_year=4.0,
        jump_volatility_exponent=2.0,
        base=0.0,
        multiplier=1.0,
        oracle_delay_steps=5,
    )
    v1 = math.exp(-0.1) * (math.exp(0.6) + 4 * math.exp(0.6) * (0.04**2 + 0.06**2))
    assert_outcome(along(rules, book((1, 0.9, 1.0, 0)), [0.0]), {"margin_mean": 2 * math.sqrt(v1 * STEP)})


def test_accounts_that_respond_hold_collateral_in_proportion_to_the_requirement():
    # The requirement at the start is 2 * 0.05 = 0.10, a quarter above the reference, so c is 0.10 instead of 0.08.
    rules = replace(BY_HAND, half_spread=0.01)
    path = [math.log(0.94), math.log(0.90)]
    responding = along(rules, book((1, 0.08, 1.0, 0), responds=True, reference_margin=0.08), path)
    assert responding == pytest.approx(along(rules, book((1, 0.10, 1.0, 0)), path), rel=1e-12)


def test_log_volatility_reverts_and_moves_with_the_price():
    # Volatility moved by one step drives the next: y_1 = e^(-k dt) y_0 + sd sqrt(1 - e^(-2 k dt)) z2, with k dt = 0.5.
    rules = replace(BY_HAND, log_volatility_sd=0.4, leverage_correlation=-0.6, drift=0.0)
    z0, z1, z2 = np.array([0.5]), np.array([[1.0], [1.0]]), np.array([[-1.0], [0.5]])
    outcome = simulate(rules, book((1, 0.9, 1.0, 0)), z0, z1, z2, np.full((2, 1), 0.5))
    sigma0 = math.exp(0.4 * 0.5)
    sigma1 = math.exp(math.exp(-0.5) * 0.2 - 0.4 * math.sqrt(1 - math.exp(-1.0)))
    first = -(sigma0**2) * STEP / 2 + sigma0 * 0.1 * (-0.6 * -1.0 + 0.8)
    second = -(sigma1**2) * STEP / 2 + sigma1 * 0.1 * (-0.6 * 0.5 + 0.8)
    assert outcome["final_log_price"][0] == pytest.approx(first + second, rel=1e-12)


# Known in law


def assert_mean(samples: np.ndarray, expected: float, *, resolution: float, sigmas: float = 5.0) -> None:
    """Fail at `sigmas` standard errors; fail too if an error of `resolution` could not be seen."""
    standard_error = samples.std(ddof=1) / math.sqrt(samples.size)
    assert 2 * sigmas * standard_error <= resolution, "too few samples"
    assert abs(samples.mean() - expected) <= sigmas * standard_error


SOLITARY = replace(BY_HAND, step_years=1 / 8760, volatility=0.8, drift=0.0, base=0.01, depth=1e12, half_spread=0.002)
BAND = (0.015, 0.03, 1.0)


def band_of_longs(count: int) -> Accounts:
    low, high, share = BAND
    ones = np.ones(count, dtype=int)
    collateral = low + (high - low) * (np.arange(count) + 0.5) / count
    return Accounts(side=ones, collateral=collateral, weight=ones * share / count, cohort=ones)


@pytest.mark.parametrize("delay", [0, 1])
def test_without_impact_losses_are_those_of_the_quadrature(delay):
    """One step more of delay nearly doubles P(insolvent), by 0.055, and adds 0.0004 to the bad debt: both are seen."""
    observations, paths = 4, 4000
    rules = replace(SOLITARY, keeper_delay_steps=delay)
    outcome = simulate(rules, band_of_longs(100), **draws(paths, observations + delay))
    setting = Setting(
        margin=0.01,
        volatility=0.8,
        horizon_years=observations / 8760,
        latency_years=delay / 8760,
        observations=observations,
        haircut=0.002,
    )
    expected = over_bands(partial(loss, setting), [BAND])
    assert_mean(outcome["liquidated_share"], expected.liquidated, resolution=0.07)
    assert_mean(outcome["insolvent_share"], expected.insolvent, resolution=0.05)
    assert_mean(outcome["bad_debt"] - outcome["open_deficit"], expected.bad_debt, resolution=0.0004)


@pytest.mark.parametrize("side", [1, -1])
def test_continuous_monitoring_triggers_as_often_as_first_passage(side):
    steps, paths = 6, 2000
    accounts = replace(band_of_longs(100), side=np.full(100, side))
    outcome = simulate(replace(SOLITARY, oracle="continuous"), accounts, **draws(paths, steps))
    trigger = (1 - side * accounts.collateral) / (1 - side * 0.01)
    log_drift = -side * 0.8**2 / 2
    probability = passage_probability(-side * np.log(trigger), log_drift, 0.8, steps / 8760)
    # Looking only at the ends of the steps would miss a quarter of them.
    assert_mean(outcome["liquidated_share"], probability.mean(), resolution=0.1)


# Always true


def test_without_volatility_prices_grow_at_the_drift_and_nobody_is_closed():
    calm = replace(LIVELY, volatility=0.0, jumps_per_year=0.0, log_volatility_sd=0.0, drift=0.3)
    outcome = simulate(calm, longs_and_shorts(200), **draws(paths=3, steps=50))
    np.testing.assert_allclose(outcome["final_log_price"], 0.3 * 50 / 8760, rtol=1e-12)
    for name in ("liquidated_share", "bad_debt", "penalty", "slippage", "fund_draw", "socialised_loss"):
        assert np.all(outcome[name] == 0.0)


@pytest.mark.parametrize("rules", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("responds", [False, True])
def test_money_is_conserved_on_every_path(rules, responds):
    outcome = simulate(rules, longs_and_shorts(200, responds), **draws(paths=20, steps=100))
    assert np.any((outcome["liquidated_share"] > 0.05) & (outcome["liquidated_share"] < 0.95))
    assert np.any(outcome["insolvent"])
    realised = outcome["bad_debt"] - outcome["open_deficit"]
    put_in = outcome["collateral_closed"] + outcome["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, outcome["returned"] + outcome["penalty"], rtol=0, atol=1e-12)
    incomes = outcome["keeper_income"] + outcome["fund_income"]
    np.testing.assert_allclose(incomes, outcome["penalty"], rtol=0, atol=1e-12)
    paid = outcome["fund_draw"] + outcome["socialised_loss"]
    np.testing.assert_allclose(paid, outcome["bad_debt"], rtol=0, atol=1e-12)
    assert np.all(outcome["fund_draw"] <= rules.fund + outcome["fund_income"] + 1e-12)
    assert np.all(outcome["false_liquidation"] <= outcome["liquidated_share"] + 1e-12)
    assert np.all(outcome["insolvent_share"] <= outcome["liquidated_share"] + 1e-12)


@pytest.mark.parametrize("rules", VARIANTS.values(), ids=VARIANTS)
def test_splitting_every_account_in_two_halves_changes_nothing(rules):
    accounts = longs_and_shorts(100)
    fields = ("side", "collateral", "cohort")
    halves = replace(
        accounts,
        **{name: np.repeat(getattr(accounts, name), 2) for name in fields},
        weight=np.repeat(accounts.weight / 2, 2),
    )
    random = draws(paths=20, steps=100)
    whole, split = simulate(rules, accounts, **random), simulate(rules, halves, **random)
    for name in whole:
        np.testing.assert_allclose(split[name], whole[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("rules", VARIANTS.values(), ids=VARIANTS)
def test_the_order_in_which_accounts_are_listed_changes_nothing(rules):
    accounts = longs_and_shorts(100)
    order = np.random.default_rng(9).permutation(100)
    names = ("side", "collateral", "weight", "cohort")
    shuffled = replace(accounts, **{name: getattr(accounts, name)[order] for name in names})
    random = draws(paths=20, steps=100)
    listed, reordered = simulate(rules, accounts, **random), simulate(rules, shuffled, **random)
    for name in listed:
        np.testing.assert_allclose(reordered[name], listed[name], rtol=1e-10, atol=1e-13, err_msg=name)


def test_keepers_for_profit_in_a_bottomless_market_close_like_unlimited_ones():
    random = draws(paths=20, steps=100)
    deep = replace(LIVELY, depth=1e12)
    unlimited = simulate(deep, longs_and_shorts(100), **random)
    profitable = simulate(replace(deep, unlimited_keepers=False), longs_and_shorts(100), **random)
    for name in unlimited:
        np.testing.assert_array_equal(profitable[name], unlimited[name], err_msg=name)


def test_with_unlimited_keepers_cohorts_do_not_matter():
    random, accounts = draws(paths=20, steps=100), longs_and_shorts(100)
    apart = simulate(LIVELY, accounts, **random)
    together = simulate(LIVELY, replace(accounts, cohort=np.zeros(100, dtype=int)), **random)
    for name in apart:
        np.testing.assert_array_equal(together[name], apart[name], err_msg=name)


def test_a_larger_fund_socialises_no_more_and_moves_nothing_else():
    random, accounts = draws(paths=20, steps=100), longs_and_shorts(100)
    small = simulate(LIVELY, accounts, **random)
    large = simulate(replace(LIVELY, fund=1.0), accounts, **random)
    assert np.any(small["insolvent"])
    assert not np.any(large["insolvent"])
    for name in set(small) - {"fund_draw", "socialised_loss", "insolvent"}:
        np.testing.assert_array_equal(large[name], small[name], err_msg=name)


def test_without_impact_a_late_oracle_costs_what_late_keepers_cost():
    random, accounts = draws(paths=20, steps=100), longs_and_shorts(100)
    late_oracle = simulate(replace(SOLITARY, oracle_delay_steps=2), accounts, **random)
    late_keepers = simulate(replace(SOLITARY, keeper_delay_steps=2), accounts, **random)
    for name in set(late_oracle) - {"false_liquidation"}:  # that looks at the oracle price at the horizon
        np.testing.assert_array_equal(late_oracle[name], late_keepers[name], err_msg=name)


def test_an_unknown_oracle_is_refused():
    with pytest.raises(ValueError, match="expected 'exact', 'push' or 'continuous'"):
        simulate(replace(BY_HAND, oracle="pull"), longs_and_shorts(2), **draws(paths=1, steps=1))


def test_continuous_monitoring_without_its_uniforms_is_refused():
    random = draws(paths=1, steps=1) | {"u_low": None}
    with pytest.raises(ValueError, match="needs u_low and u_high"):
        simulate(replace(BY_HAND, oracle="continuous"), longs_and_shorts(2), **random)
