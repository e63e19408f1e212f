"""Warnings and triggers: against accounts followed one by one, and their derivatives."""

from dataclasses import replace

import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case, assert_followed

from calibrate.gradient import check_gradients
from calibrate.simulate import METRIC_FIELDS, Outcome, simulate

BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
CALLS = {"warning": 1.6, "top_up": 0.4, "response_steps": 6}
RULES = {
    "judged at the market, with fees": {"trigger_extra": 0.004, "trigger_at_market": True},
    "margin calls": CALLS,
    "a batch every half hour": {"batch_steps": 15},
    "margin calls, unlimited keepers": CALLS | {"unlimited_keepers": True},
}
SAME = ("bad_debt", "open_deficit", "insolvent_share", "liquidated", "liquidated_share", "penalty", "slippage", "fund_draw",
        "false_liquidation", "returned", "collateral_closed")  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name == "margin calls" else pytest.param(name, marks=pytest.mark.slow) for name in RULES]
)
def test_accounts_are_closed_as_those_followed_one_by_one_are(name: str) -> None:
    case = BASE.but(**RULES[name])
    v = simulate(case.scenario(), case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:6])
    same = (*SAME, "topped_up") if case.rules.top_up else SAME
    accounts = assert_followed(
        case,
        {field: v[field][worst] for field in same},
        worst,
        dict(zip(same, same, strict=True)),
        accounts=(100, 1000),
        within=2e-2,
    )
    assert ("topped_up" in v) == (case.rules.top_up > 0)
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])
    realised = v["bad_debt"] - v["open_deficit"]
    put_in = v["collateral_closed"] + v["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, v["returned"] + v["penalty"], rtol=0, atol=1e-13)


@pytest.mark.slow
def test_calls_that_nobody_answers_change_nothing() -> None:
    deaf = BASE.but(warning=1.6, top_up=1e-15)
    plain, called = (
        simulate(case.scenario(), case.parameters(), seed=3, paths=200, chunk=400).values for case in (BASE, deaf)
    )
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(called[name], plain[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_derivatives_are_limits_of_difference_quotients() -> None:
    case = replace(BASE, steps=60).but(oracle="exact", trigger_extra=0.002, trigger_at_market=True, **CALLS)
    for row in check_gradients(
        case.scenario(), case.parameters(), ("base_margin", "penalty"), seed=5, paths=512, bump=1e-7
    ):
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
