"""What makes keepers close: each incentive against accounts followed one by one, and its derivatives."""

from dataclasses import replace

import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case, assert_followed

from calibrate.gradient import check_gradients
from calibrate.simulate import Outcome, simulate

BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
INCENTIVES = {
    "reward with a floor": {"reward_floor": 0.009, "fund": 0.001},
    "reward with a cap": {"reward_cap": 0.003},
    "gas under congestion": {"gas": 0.002, "gas_exponent": 1.5},
    "penalty by health": {"bonus_highest": 0.04, "bonus_from": 1.0, "bonus_to": 0.2},
    "penalty from nothing, dear gas": {"penalty": 0.03, "bonus_lowest_part": 0.0, "bonus_to": 0.2, "gas": 0.004},
    "penalty by the health of a debt": {
        "penalty": 0.03, "bonus_lowest_part": 0.2, "bonus_per_health": 1.0, "bonus_lending": True, "gas": 0.002,
    },
    "penalty by health from below the trigger": {
        "penalty": 0.03, "bonus_lowest_part": 0.3, "bonus_from": 0.7, "bonus_to": 0.4, "gas": 0.002,
    },
    "penalty by health, unlimited keepers": {"bonus_highest": 0.03, "bonus_to": 0.5, "unlimited_keepers": True},
    "takeover at the oracle price": {"fill": "oracle"},
    "cap on what is closed": {"close_cap": 0.02, "close_cap_refill_per_year": 0.02 * 24 * 365},
    "order up to a limit": {"fill": "limit", "limit": 0.006},
}  # fmt: skip
SAME = (
    "bad_debt", "open_deficit", "insolvent_share", "liquidated", "liquidated_share", "penalty", "fund_income", "slippage",
    "fund_draw", "socialised_loss", "returned", "collateral_closed", "pnl_closed",
)  # fmt: skip


@pytest.fixture(scope="module")
def without() -> dict[str, np.ndarray]:
    return simulate(BASE.scenario(), BASE.parameters(), seed=3, paths=400, chunk=400).values


FAST = ("reward with a floor", "penalty from nothing, dear gas", "takeover at the oracle price")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in INCENTIVES]
)
def test_keepers_close_what_they_close_of_accounts_followed_one_by_one(
    name: str, without: dict[str, np.ndarray]
) -> None:
    case = BASE.but(**INCENTIVES[name])
    v = simulate(case.scenario(), case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:6])
    on_worst = {field: v[field][worst] for field in SAME}
    accounts = assert_followed(
        case, on_worst, worst, dict(zip(SAME, SAME, strict=True)), accounts=(100, 1000), within=2e-2
    )
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])
    assert np.abs(v["fund_income"] - without["fund_income"]).mean() > 0.03 * without["fund_income"].mean(), (
        "it should matter"
    )
    assert np.median(v["bad_debt"][worst]) > 1e-4
    realised = v["bad_debt"] - v["open_deficit"]
    put_in = v["collateral_closed"] + v["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, v["returned"] + v["penalty"], rtol=0, atol=1e-13)


# Two programs, in which every rule is at work.
TOGETHER = {
    "reward, congestion and health": {
        "reward_floor": 0.008, "reward_cap": 0.012, "gas_exponent": 1.0, "bonus_highest": 0.03, "bonus_to": 0.3,
    },
    "takeover": {"fill": "oracle"},
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_derivatives_are_limits_of_difference_quotients(name: str) -> None:
    case = replace(BASE, steps=60).but(oracle="exact", **TOGETHER[name])
    names = ("base_margin", "penalty", "depth_scale")
    for row in check_gradients(case.scenario(), case.parameters(), names, seed=5, paths=1024, bump=1e-7):
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
