"""The engine with everything switched on, against accounts followed one by one, difference quotients, and itself."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, MINUTE, Case, TestBook, assert_followed

from calibrate import simulate as simulation
from calibrate.errors import UserError
from calibrate.gradient import GradientCheck, check_gradients, moved
from calibrate.policy import Parameters
from calibrate.simulate import METRIC_FIELDS, Outcome, Scenario, simulate

EVERYTHING = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
# The margin may rise by 10 and fall by 1 bps an hour; most paths meet both limits.
ANTI_PROCYCLICAL = {"stress_weight": 0.4, "stressed_volatility": 1.6, "rise_per_year": 8.76, "fall_per_year": 0.876}
VARIANTS = {
    "push oracle, keepers for profit, re-check": {},
    "exact oracle, no re-check": {"oracle": "exact", "recheck": False},
    "continuous oracle, unlimited keepers": {
        "oracle": "continuous",
        "oracle_delay_steps": 0,
        "unlimited_keepers": True,
    },
    "no delays, deep fund": {"oracle_delay_steps": 0, "keeper_delay_steps": 0, "fund": 0.05},
    "exact oracle, stressed volatility, margin in small steps": {"oracle": "exact", **ANTI_PROCYCLICAL},
    "a clock for a heartbeat, delay that grows with volatility": {
        "heartbeat_restarts": False,
        "heartbeat_years": 30.37 * MINUTE,
        "oracle_delay_steps": 3,
        "oracle_delay_exponent": 0.8,
        "longest_oracle_delay_steps": 6,
    },
}
# The brute-force simulator's name for each of the engine's outcomes.
SAME = {"margin_mean": "initial_margin"} | {
    name: name
    for name in (
        "bad_debt", "open_deficit", "insolvent_share", "liquidated", "liquidated_share", "penalty", "fund_income",
        "slippage", "fund_draw", "socialised_loss", "false_liquidation", "returned", "collateral_closed", "pnl_closed",
        "margin_peak_to_trough", "margin_rise",
    )
}  # fmt: skip


def outcomes(case: Case, *, seed: int = 3, paths: int = 400) -> dict[str, np.ndarray]:
    """All outcomes, in chunks of one size: tests of venues that differ in numbers alone share a compiled program."""
    return simulate(
        case.scenario(), case.parameters(), seed=seed, paths=paths, fields=Outcome._fields, chunk=400
    ).values


def worst_paths(case: Case, number: int = 12) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The paths on which most happens, and the engine's outcomes on them."""
    values = outcomes(case)
    paths = np.sort(np.argsort(-values["distance"])[:number])
    return paths, {name: outcome[paths] for name, outcome in values.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_continuum_is_the_limit_of_accounts_followed_one_by_one(name: str) -> None:
    case = EVERYTHING.but(**VARIANTS[name])
    paths, engine = worst_paths(case)
    assert np.median(engine["bad_debt"]) > 1e-4, "these paths should test losses"
    assert engine["liquidated"].min() > 0.01
    halves = ("bad_debt", "liquidated")
    accounts = assert_followed(case, engine, paths, SAME, accounts=(250, 2000), within=1e-2, halves=halves)
    np.testing.assert_array_equal(engine["distance"] > 0, accounts["insolvent"])


def test_margins_agree_to_rounding_where_liquidations_do_not_move_prices() -> None:
    case = EVERYTHING.but(depth=1e12, **ANTI_PROCYCLICAL)
    paths, engine = worst_paths(case)
    accounts = case.brute_force(seed=3, paths=paths, accounts=4)
    for theirs in ("margin_mean", "margin_peak_to_trough", "margin_rise"):
        np.testing.assert_allclose(accounts[theirs], engine[SAME[theirs]], rtol=1e-9, atol=1e-12, err_msg=theirs)


def test_a_planted_error_in_the_loss_is_seen_by_the_accounts() -> None:
    """The test of the test: a cover that forgets the spread, by changing the engine's rule only."""
    case = EVERYTHING.but(half_spread=0.004)
    paths, _ = worst_paths(case)
    accounts = case.brute_force(seed=3, paths=paths, accounts=1000)
    _, wrong = worst_paths(case.but(half_spread=0.0))
    assert np.abs(wrong["bad_debt"] - accounts["bad_debt"]).max() > 2e-4


@pytest.mark.parametrize("name", ["exact oracle, no re-check", "push oracle, keepers for profit, re-check"])
def test_every_dollar_that_leaves_an_account_arrives_somewhere(name: str) -> None:
    case = EVERYTHING.but(**VARIANTS[name])
    v = outcomes(case, seed=4)
    closed_at_a_loss = v["bad_debt"] - v["open_deficit"]
    np.testing.assert_allclose(
        v["collateral_closed"] + v["pnl_closed"] + closed_at_a_loss, v["returned"] + v["penalty"], atol=1e-14
    )
    np.testing.assert_allclose(v["fund_draw"] + v["socialised_loss"], v["bad_debt"], atol=1e-15)
    assert v["fund_draw"].max() > 0
    assert (v["fund_draw"] <= case.rules.fund + v["fund_income"] + 1e-15).all()


def test_distance_is_positive_exactly_where_the_fund_is_exhausted() -> None:
    v = outcomes(EVERYTHING, seed=5, paths=4000)
    np.testing.assert_array_equal(v["distance"] > 0, v["socialised_loss"] > 1e-15)
    assert 100 < np.count_nonzero(v["distance"] > 0) < 3900


PARAMETERS = ("base_margin", "volatility_multiplier", "penalty", "volatility_scale", "depth_scale")
SHORT = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 120)


def checked(parameters: Parameters) -> list[GradientCheck]:
    scenario = SHORT.but(oracle="exact").scenario()
    return check_gradients(scenario, parameters, PARAMETERS, seed=5, paths=2048, bump=1e-7)


@pytest.fixture(scope="module")
def rows() -> list[GradientCheck]:
    return checked(SHORT.parameters())


def test_derivatives_along_the_path_are_the_limit_of_difference_quotients(rows: list[GradientCheck]) -> None:
    wrong = [row for row in rows if not row.agrees]
    assert not wrong
    closest = [abs(r.pathwise - r.finite_difference) / abs(r.pathwise) for r in rows if r.metric == "bad_debt"]
    assert max(closest) < 1e-6
    assert min(abs(row.pathwise) for row in rows if row.metric == "bad_debt") > 1e-6, "every parameter should matter"


def test_a_wrong_derivative_is_seen_by_the_check(rows: list[GradientCheck]) -> None:
    """The test of the test: a derivative taken at another margin."""
    elsewhere = checked(moved(SHORT.parameters(), "base_margin", 2e-3))
    here, there = (
        next(row for row in found if (row.metric, row.parameter) == ("bad_debt", "base_margin"))
        for found in (rows, elsewhere)
    )
    assert not here._replace(pathwise=there.pathwise).agrees


def test_a_deviation_threshold_biases_the_derivative_of_bad_debt_little() -> None:
    """A push oracle updates at thresholds, and through the cascade the moment of an update depends on the parameters. What the
    derivative along the path leaves out is seen by a difference quotient of a wide step. Measured on 60,000 paths: for bad
    debt the two differ by less than 10 % of the derivative in the margin."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 120)
    row = check_gradients(
        case.scenario(), case.parameters(), ("base_margin",), seed=6, paths=20_000, bump=0.02, fields=("bad_debt",)
    )[0]
    gap, noise = abs(row.pathwise - row.finite_difference), row.difference_standard_error
    assert gap + 5 * noise < 0.35 * abs(row.pathwise)


def test_with_all_weight_on_stress_the_margin_does_not_follow_the_forecast() -> None:
    case = EVERYTHING.but(stress_weight=1.0, stressed_volatility=1.6)
    sample = simulate(
        case.scenario(), case.parameters(), seed=3, paths=200, fields=Outcome._fields, derivatives=("forecast_memory",)
    )
    r = case.rules
    margin = r.base + r.multiplier * 1.6 * np.sqrt(r.horizon_of_margin_years) + r.allowance * r.penalty
    np.testing.assert_allclose(sample.values["initial_margin"], r.initial_ratio * margin, rtol=1e-12)
    np.testing.assert_allclose(sample.values["margin_rise"], 0.0, atol=1e-15)
    for name, slopes in sample.derivatives.items():
        assert not slopes.any(), name


def test_stressed_volatility_without_weight_changes_nothing() -> None:
    without, unused = (outcomes(case) for case in (EVERYTHING, EVERYTHING.but(stressed_volatility=1.6)))
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(unused[name], without[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_limits_on_the_margin_that_nothing_reaches_are_none() -> None:
    met = EVERYTHING.but(**ANTI_PROCYCLICAL)
    free, unreached = (met.but(rise_per_year=rate, fall_per_year=rate) for rate in (np.inf, 1e6))
    free, met, unreached = (outcomes(case) for case in (free, met, unreached))
    assert (met["margin_rise"] < 0.99 * free["margin_rise"]).mean() > 0.5, "the limits should matter"
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(unreached[name], free[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_margin_that_may_not_move_stays_where_it_started() -> None:
    v = outcomes(
        EVERYTHING.but(**ANTI_PROCYCLICAL | {"stress_weight": 0.0, "rise_per_year": 0.0, "fall_per_year": 0.0})
    )
    np.testing.assert_allclose(v["margin_rise"], 0.0, atol=1e-15)
    np.testing.assert_allclose(v["margin_peak_to_trough"], 1.0, rtol=1e-12)
    assert v["initial_margin"].std() > 0.1 * v["initial_margin"].mean(), "paths start at different volatilities"


def test_derivatives_in_what_dampens_the_margin_are_the_limits_of_difference_quotients() -> None:
    # The floor holds on some paths only.
    case = SHORT.but(oracle="exact", floor=0.02, **ANTI_PROCYCLICAL)
    names = ("stress_weight", "margin_floor", "margin_rise", "margin_fall", "forecast_memory")
    for row in check_gradients(case.scenario(), case.parameters(), names, seed=5, paths=2048, bump=1e-7):
        assert row.pathwise, f"{row.parameter} should matter to {row.metric}"
        # Few paths meet the limits on the margin's speed, so that rounding shows in their quotients: as scatter from path to path.
        rounding = 5 * row.difference_standard_error
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=rounding, err_msg=str(row))


def test_shorter_steps_change_no_metric() -> None:
    """Steps of 60 and of 20 seconds, two independent samples: every mean within five standard errors of their difference. Two
    rules mean something else when steps get shorter and are left out: an oracle that looks at every step, and a re-check, which
    asks about two moments a delay apart. Keepers take one and a half minutes in both; the step resolves the market's recovery
    (with one of three minutes, slippage, the most sensitive, is 2 % off: seven standard errors)."""
    venue = {
        "oracle": "continuous",
        "oracle_delay_steps": 0,
        "recheck": False,
        "depth": 0.3,
        "flow_times_years": (60 * MINUTE, 600 * MINUTE, np.inf),
    }
    coarse = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 360).but(**venue, step_years=MINUTE, keeper_delay_steps=1)
    fine = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 1080).but(**venue, step_years=MINUTE / 3, keeper_delay_steps=4)
    first, second = (
        simulate(c.scenario(), c.parameters(), seed=seed, paths=40_000).values for c, seed in ((coarse, 1), (fine, 2))
    )
    for name in METRIC_FIELDS:
        # The margin's extremes are those of the steps, and its forecast sees the returns of the steps.
        if not name.startswith("margin"):
            a, b = np.asarray(first[name], float), np.asarray(second[name], float)
            error = np.hypot(a.std(), b.std()) / np.sqrt(a.size)
            gap = abs(a.mean() - b.mean())
            print(f"{name}: {a.mean():.5g} and {b.mean():.5g}, {gap / error:.1f} standard errors")
            assert gap < 5 * error, name


def test_chunks_of_any_size_give_the_same_answer() -> None:
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 60, np.float32)
    small, large = (
        simulate(case.scenario(), case.parameters(), seed=1, paths=20_000, chunk=chunk).values
        for chunk in (1024, 16_384)
    )
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(small[name], large[name], rtol=2e-5, atol=2e-7, err_msg=name)


def test_any_subset_of_paths_can_be_simulated_again() -> None:
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 60)
    all_paths = simulate(case.scenario(), case.parameters(), seed=1, paths=200).values
    some = np.array([3, 77, 199])
    again = simulate(case.scenario(), case.parameters(), seed=1, paths=some).values
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(again[name], all_paths[name][some], rtol=1e-12, atol=1e-15)


def test_single_precision_is_good_enough() -> None:
    """On the same shocks, float32 moves no mean by more than a hundredth of its standard error at 20,000 paths plus 1e-4."""
    double, single = (
        simulate(c.scenario(), c.parameters(), seed=8, paths=20_000).values
        for c in (Case(EVERYTHING_ON, LONGS_AND_SHORTS, 120, dtype) for dtype in (np.float64, np.float32))
    )
    for name in METRIC_FIELDS:
        a, b = np.asarray(double[name]), np.asarray(single[name], np.float64)
        allowed = 0.3 * a.std() / np.sqrt(a.size) + 1e-4 * abs(a.mean())
        assert abs(a.mean() - b.mean()) <= allowed, name


def test_without_risk_nothing_happens() -> None:
    case = EVERYTHING.but(volatility=1e-9, log_volatility_sd=0.0, jumps_per_year=0.0, drift=0.0, base=0.01)
    case = Case(case.rules, TestBook(((1, 1.0, ((0.05, 0.2, 1.0),)),)), 50)
    v = simulate(case.scenario(), case.parameters(), seed=1, paths=8).values
    for name in ("bad_debt", "liquidated", "penalty", "slippage", "socialised_loss", "false_liquidation"):
        assert (np.abs(v[name]) < 1e-15).all(), name
    np.testing.assert_allclose(v["final_log_price"], 0.0, atol=1e-9)


def test_splitting_a_cohort_changes_nothing() -> None:
    bands = ((0.025, 0.06, 0.5), (0.06, 0.2, 0.5))
    whole = TestBook(((1, 0.6, bands), (-1, 0.4, bands)))
    split = TestBook(((1, 0.25, bands), (1, 0.35, bands), (-1, 0.4, bands)))
    one, two = (
        simulate(c.scenario(), c.parameters(), seed=2, paths=300).values
        for c in (Case(EVERYTHING_ON, book, 200) for book in (whole, split))
    )
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_more_margin_never_means_more_bad_debt_when_keepers_are_not_limited() -> None:
    case = EVERYTHING.but(unlimited_keepers=True, depth=1e9, recheck=False, oracle="exact")
    book = TestBook(((1, 0.5, ((0.03, 0.2, 1.0),)), (-1, 0.5, ((0.03, 0.2, 1.0),))))
    case = Case(case.rules, book, 300)
    debts = [
        simulate(c.scenario(), c.parameters(), seed=9, paths=2000).values["bad_debt"].mean()
        for c in (case.but(base=base) for base in (0.004, 0.008, 0.016))
    ]
    assert debts[0] > debts[1] > debts[2] > 0


def test_one_program_serves_all_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, paths, policy, market, depth, the fund, the length of a step and of a delay may change: what is traced once is not
    traced again. Another number of steps, which does need another program, shows that the count would see it."""
    traces = []
    traced = simulation.outcomes
    monkeypatch.setattr(simulation, "outcomes", lambda *arguments: traces.append(1) or traced(*arguments))
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 26, np.float32)
    scenario, parameters = case.scenario(), case.parameters()

    def run(scenario: Scenario, parameters: Parameters, seed: int, paths: int | np.ndarray) -> None:
        simulate(scenario, parameters, seed=seed, paths=paths, chunk=64, fields=("distance",))

    run(scenario, parameters, 1, 64)
    assert len(traces) == 1
    other = parameters.world._replace(depth_scale=np.float32(0.5) * parameters.world.depth_scale)
    run(scenario, moved(parameters, "penalty", 0.001), 2, 130)
    run(scenario, parameters._replace(world=other), 2**40, np.array([5, 2**33]))
    for change in ({"base": 0.03}, {"depth": 0.2, "fund": 0.01}, {"volatility": 1.4}, {"step_years": MINUTE / 2}):
        run(case.but(**change).scenario(), case.but(**change).parameters(), 3, np.arange(64) + 7)
    run(eqx.tree_at(lambda s: s.oracle.delay.steps, scenario, jnp.int32(2)), parameters, 4, 64)
    assert len(traces) == 1
    assert jnp.asarray(1.0).dtype == jnp.float32, "double precision must not leak out"
    run(Case(EVERYTHING_ON, LONGS_AND_SHORTS, 27, np.float32).scenario(), parameters, 1, 64)
    assert len(traces) == 2


def test_results_that_are_not_finite_are_refused() -> None:
    """Comparisons pass over what is not a number, so a venue might look solvent because of it."""
    case = EVERYTHING.but(volatility=1e6)
    with pytest.raises(UserError, match="no finite number on some path"):
        simulate(case.scenario(), case.parameters(), seed=1, paths=32)
