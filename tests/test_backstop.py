"""Who pays for what accounts lack: the waterfall against accounts followed one by one, and every dollar accounted for."""

from dataclasses import replace

import numpy as np
import pytest
from venues import DAY, EVERYTHING_ON, LONGS_AND_SHORTS, Case, assert_followed

from calibrate.gradient import check_gradients
from calibrate.simulate import OPTIONAL_FIELDS, Outcome, simulate

# Every layer has some money and none has enough; prices gap, so that longs and shorts both fall short.
LAYERS = {
    "fund": 0.0006,
    "fund_cap": 0.0002,
    "fund_cap_refill_per_year": 0.0002 / DAY * 24,
    "vault": 0.0003,
    "deleverages": True,
}
# So few shorts that the winners' positions do not suffice either.
FEW_SHORTS = replace(
    LONGS_AND_SHORTS,
    cohorts=tuple(
        (side, weight, cohort[2])
        for (side, weight), cohort in zip(((1, 0.6), (-1, 0.05), (1, 0.35)), LONGS_AND_SHORTS.cohorts, strict=True)
    ),
)
EVERY_LAYER = Case(EVERYTHING_ON, FEW_SHORTS, 300).but(**LAYERS)
ACCOUNTS = ("bad_debt", "fund_draw", "vault_draw", "adl_loss", "adl_rate", "socialised_loss", "liquidated", "liquidated_share",
            "false_liquidation", "penalty")  # fmt: skip


def outcomes(case: Case, *, seed: int, paths: int | np.ndarray, **options: object) -> dict[str, np.ndarray]:
    fields = tuple(name for name in Outcome._fields)
    return simulate(
        case.scenario(), case.parameters(), seed=seed, paths=paths, fields=fields, chunk=400, **options
    ).values


@pytest.fixture(scope="module")
def engine() -> dict[str, np.ndarray]:
    return outcomes(EVERY_LAYER, seed=3, paths=400)


def test_the_layers_pay_what_they_pay_for_accounts_followed_one_by_one(engine: dict[str, np.ndarray]) -> None:
    worst = np.sort(np.argsort(-engine["bad_debt"])[:12])
    on_worst, same = {name: engine[name][worst] for name in ACCOUNTS}, dict(zip(ACCOUNTS, ACCOUNTS, strict=True))
    accounts = assert_followed(EVERY_LAYER, on_worst, worst, same, accounts=(250, 2000), within=1e-2)
    for layer in ("fund_draw", "vault_draw", "adl_loss", "adl_rate", "socialised_loss"):
        assert (engine[layer][worst] > 1e-5).sum() > 1, f"{layer} should matter"
    np.testing.assert_array_equal(engine["distance"][worst] > 0, accounts["insolvent"])


BY_RANK = {"deleverages_by_rank": True, "deleverages_at_mark": True, "gate_years": DAY / 12}


def test_winners_are_ranked_and_take_over_at_the_mark_as_accounts_followed_one_by_one_do(
    engine: dict[str, np.ndarray],
) -> None:
    case = EVERY_LAYER.but(**BY_RANK)
    v = outcomes(case, seed=3, paths=400)
    v["stopped_years"] = v["withdrawals_stopped"] * case.steps * case.rules.step_years
    worst = np.sort(np.argsort(-v["bad_debt"])[:8])
    same = dict(zip((*ACCOUNTS, "stopped_years"), (*ACCOUNTS, "stopped_years"), strict=True))
    on_worst = {name: v[name][worst] for name in same}
    accounts = assert_followed(case, on_worst, worst, same, accounts=(100, 800), within=2e-2, halves=("adl_loss",))
    for layer in ("adl_loss", "adl_rate", "socialised_loss", "stopped_years"):
        assert (v[layer][worst] > 1e-5).sum() > 1, f"{layer} should matter"
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])
    assert v["adl_loss"].mean() < 0.9 * engine["adl_loss"].mean(), "at the mark winners lose less"
    paid = v["fund_draw"] + v["vault_draw"] + v["adl_loss"] + v["socialised_loss"]
    np.testing.assert_allclose(paid, v["bad_debt"], rtol=0, atol=1e-12)
    assert (v["adl_rate"] + v["liquidated_share"] <= 1 + 1e-12).all()


def random_rules(rng: np.random.Generator) -> dict[str, float]:
    """A venue at random: shallow to deep, calm to wild, with little or much money in every layer."""
    between = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
    return {
        "volatility": between(0.3, 3.0),
        "jumps_per_year": between(10.0, 3000.0),
        "jump_up_mean": between(0.003, 0.05),
        "jump_down_mean": between(0.003, 0.05),
        "depth": between(0.01, 1.0),
        "base": between(0.002, 0.05),
        "penalty": between(0.002, 0.05),
        "keeper_share": rng.uniform(0, 1),
        "gas": between(1e-5, 2e-3),
        "half_spread": between(1e-5, 5e-3),
        "fund": between(1e-6, 1e-2),
        "fund_cap": between(1e-6, 1e-2),
        "fund_cap_refill_per_year": between(1e-3, 10.0),
        "vault": between(1e-6, 1e-2),
    }


@pytest.mark.parametrize("number", range(12))
def test_every_dollar_is_accounted_for_in_every_venue(number: int) -> None:
    """To 1e-12 of open interest on every path, however much or little money each layer has."""
    case = EVERY_LAYER.but(**random_rules(np.random.default_rng(number)))
    v = outcomes(case, seed=number, paths=400)
    paid = v["fund_draw"] + v["vault_draw"] + v["adl_loss"] + v["socialised_loss"]
    np.testing.assert_allclose(paid, v["bad_debt"], rtol=0, atol=1e-12)
    realised = v["bad_debt"] - v["open_deficit"]
    put_in = v["collateral_closed"] + v["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, v["returned"] + v["penalty"], rtol=0, atol=1e-12)
    assert (v["fund_draw"] <= case.rules.fund + v["fund_income"] + 1e-12).all()
    most = case.rules.fund_cap + case.rules.fund_cap_refill_per_year * case.rules.step_years * 300
    assert (v["fund_draw"] <= most + 1e-12).all()
    assert (v["vault_draw"] <= case.rules.vault + 1e-12).all()
    for name in ("fund_draw", "vault_draw", "adl_loss", "adl_rate", "socialised_loss"):
        assert (v[name] >= -1e-12).all(), name
    assert (v["adl_rate"] + v["liquidated_share"] <= 1 + 1e-12).all()
    assert ((v["distance"] > 0) == (v["bad_debt"] > v["fund_draw"] + 1e-14)).all()


@pytest.mark.slow
def test_layers_without_money_change_nothing() -> None:
    """No winners are asked, the cap is out of reach and the vault all but empty: every outcome is that of a venue without."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
    without = simulate(case.scenario(), case.parameters(), seed=3, paths=200, chunk=400).values
    assert not set(OPTIONAL_FIELDS) & set(without)
    empty = case.but(fund_cap=1e3, vault=1e-30)
    values = simulate(empty.scenario(), empty.parameters(), seed=3, paths=200, chunk=400).values
    for name, outcome in without.items():
        np.testing.assert_allclose(values[name], outcome, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("rules", [{}, pytest.param(BY_RANK, marks=pytest.mark.slow)], ids=["all alike", "by rank"])
def test_derivatives_of_what_each_layer_pays_are_limits_of_difference_quotients(rules: dict[str, object]) -> None:
    case = replace(EVERY_LAYER, steps=60).but(oracle="exact", volatility=1.5, **rules)
    fields = ("bad_debt", "vault_draw", "adl_loss", "adl_rate", "socialised_loss", "fund_draw")
    names = ("base_margin", "penalty")
    rows = check_gradients(case.scenario(), case.parameters(), names, seed=5, paths=1024, bump=1e-7, fields=fields)
    for row in rows:
        assert row.pathwise, f"{row.parameter} should matter to {row.metric}"
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, err_msg=str(row))
