"""Partial liquidation: how close one aggregate a cohort comes to accounts followed one by one, rule by rule."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.gradient import check_gradients
from calibrate.simulate import METRIC_FIELDS, Outcome, simulate
from calibrate.touched import Moments, band_of
from calibrate.venue.close import TargetClose, Terms

BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
HALF = {"close": "fraction", "close_fraction": 0.5, "full_below": 0.3}
RULES = {"half, unlimited keepers": HALF | {"unlimited_keepers": True}}
SLOW = {
    "half": HALF,
    "a fifth, rest of five steps": {
        "close": "fraction", "close_fraction": 0.2, "full_below": 0.6, "cooldown_steps": 5, "unlimited_keepers": True,
    },
    "a tenth a step": {"close": "fraction", "close_fraction": 0.1, "unlimited_keepers": True},
    "to a health of 1.25": {"close": "target", "close_target": 1.25, "unlimited_keepers": True},
    "to a health of 1.05": {"close": "target", "close_target": 1.05, "unlimited_keepers": True},
    "half, whole below three tenths of a mean position": HALF | {"dust": 0.3, "unlimited_keepers": True},
    "to a health of 1.5, whole below a fifth": {"close": "target", "close_target": 1.5, "dust": 0.2, "unlimited_keepers": True},
    "to a buffer": {"close": "buffer", "close_buffer": 0.02, "unlimited_keepers": True},
    "to a buffer within ten steps": {
        "close": "buffer", "close_buffer": 0.02, "close_initial": 0.1, "close_ramp_steps": 10.0, "unlimited_keepers": True,
    },
    "to a health of 2": {"close": "target", "close_target": 2.0, "full_below": 0.3},
}  # fmt: skip
# Largest differences of means allowed, relative to the accounts'. Measured: bad debt within 1.6 %, and 4.5 % with the ramp; what is
# liquidated within 0.5 %; what is closed needlessly within 5 %, and 15 % for the rules that touch accounts most often.
WITHIN = {"bad_debt": 0.05, "liquidated": 0.02, "liquidated_share": 0.02, "collateral_closed": 0.03, "slippage": 0.03,
          "false_liquidation": 0.16}  # fmt: skip


@pytest.mark.parametrize("name", [*RULES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_one_aggregate_comes_close_to_accounts_followed_one_by_one(name: str) -> None:
    case = BASE.but(**(RULES | SLOW)[name])
    case = replace(case, book=replace(case.book, many_sizes=case.rules.dust > 0 and case.rules.close == "fraction"))
    v = simulate(case.scenario(), case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:8])
    accounts = case.brute_force(seed=3, paths=worst, accounts=300)
    assert v["bad_debt"][worst].mean() > 1e-3, "these paths should test losses"
    for field, within in WITHIN.items():
        ratio = v[field][worst].mean() / accounts[field].mean() - 1
        print(f"{name}: {field} {ratio:+.2%}")
        assert abs(ratio) < within, f"{field} is off by {ratio:.2%}"
    in_full = simulate(
        BASE.scenario(), BASE.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400
    ).values  # fmt: skip
    assert abs(v["liquidated"].mean() / in_full["liquidated"].mean() - 1) > 0.02, "the rule should matter"
    realised = v["bad_debt"] - v["open_deficit"]
    put_in = v["collateral_closed"] + v["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, v["returned"] + v["penalty"], rtol=0, atol=1e-12)
    assert (v["liquidated_share"] <= 1 + 1e-12).all()


@pytest.mark.slow
def test_a_rule_that_closes_everyone_in_full_is_none() -> None:
    """Nobody's health is above what makes a close a full one."""
    everyone = BASE.but(close="fraction", close_fraction=0.5, full_below=1e3)
    plain, same = (
        simulate(case.scenario(), case.parameters(), seed=3, paths=200, chunk=400).values for case in (BASE, everyone)
    )
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(same[name], plain[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_derivatives_of_partial_liquidation_are_limits_of_difference_quotients() -> None:
    case = replace(BASE, steps=60).but(oracle="exact", volatility=1.3, **HALF)
    for row in check_gradients(
        case.scenario(), case.parameters(), ("base_margin", "penalty"), seed=5, paths=512, bump=1e-7
    ):
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))


def test_an_account_at_its_target_is_left_there() -> None:
    """Equity 0.03, maintenance 0.04, penalty 0.01 of notional, target 1.25: (0.05 - 0.03) / (0.05 - 0.01) = half is closed, and
    the other half has 0.03 - 0.005 = 0.025 against 0.5 * 0.05."""
    rule = TargetClose(target=jnp.asarray(1.25), full_below=jnp.asarray(0.0), cooldown=None, dust=None)
    one = jnp.ones((1, 1))
    terms = Terms(cover=0.1 * one, fee=0.01 * one, maintenance=0.04 * one, notional=one, price=one)
    aim, slope = rule.line(terms)
    assert aim is not None
    np.testing.assert_allclose((aim - (terms.cover + 0.03)) / slope, 0.5, rtol=1e-5)
    np.testing.assert_allclose(rule.closed_in_full(terms), 0.11, rtol=1e-6)


def test_a_band_has_the_moments_it_was_made_of() -> None:
    share, mean, variance = 0.3, 0.05, 0.01**2
    band = band_of(
        Moments(*(jnp.full((1, 1), x) for x in (share, share * mean, share * (mean**2 + variance)))), jnp.zeros((1, 1))
    )
    slice_ = band.slice()
    np.testing.assert_allclose(slice_.share, share, rtol=1e-6)
    np.testing.assert_allclose(slice_.collateral, share * mean, rtol=1e-6)
    np.testing.assert_allclose(band.high - band.low, np.sqrt(12 * variance), rtol=1e-4)
    levels = np.linspace(float(band.low[0, 0]), float(band.high[0, 0]), 20_001)[:-1] + 1e-9
    for strike in (0.03, 0.05, 0.055, 0.1):
        lacking = share * np.maximum(strike - levels, 0).mean()
        np.testing.assert_allclose(slice_.lacking(jnp.full((1, 1), strike)), lacking, rtol=1e-3, atol=1e-6)
