"""The fit finds the parameters of markets that we made, and the shipped models have the tails of the real ones.

Random checks allow five standard errors on pinned seeds: a true statement fails one time in a million. Each says beside
it which wrong statement it would see.
"""

import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import shocks_of, start_of
from markets import log_ou_kou
from scipy.stats import ks_2samp, kstest

from calibrate.data.candles import Candles, read_candles
from calibrate.errors import UserError
from calibrate.market import fit as fitting
from calibrate.market import targets
from calibrate.market.files import read_model, write_model
from calibrate.market.fit import fit_candles, measure_goodness
from calibrate.market.moments import Numbers, Windows, long_run_moments, simulate
from calibrate.units import SECONDS_PER_YEAR

ROOT = Path(__file__).parents[1]
MARKET_DATA = Path(os.environ.get("CALIBRATE_MARKET_DATA", ROOT / "../shared/data"))
SHIPPED = {"eth-usd": "ETHUSDT_1h.parquet", "btc-usd": "BTCUSDT_1h.parquet"}

TRUTH = {
    "volatility": 0.55,
    "log_volatility_sd": 0.6,
    "reversion_half_life_days": 3.0,
    "leverage_correlation": -0.4,
    "jumps_per_year": 800.0,
    "jump_volatility_exponent": 0.8,
    "jump_up_probability": 0.4,
    "jump_up_mean": 0.012,
    "jump_down_mean": 0.016,
    "drift": 0.0,
}
CALM = {**TRUTH, "log_volatility_sd": 0.0}


def candles_of(parameters, *, years, seed, interval_s=3600):
    """Candles of a market simulated in steps of a minute."""
    count = round(years * SECONDS_PER_YEAR / interval_s)
    steps = interval_s // 60
    returns = simulate(parameters, Numbers.draw(np.random.default_rng(seed), count * steps), 60.0)
    level = np.concatenate([[0.0], np.cumsum(returns.reshape(count, steps).sum(axis=1, dtype=np.float64))])
    opening, close = 100 * np.exp(level[:-1]), 100 * np.exp(level[1:])
    ts = 1_600_000_000_000 + 1000 * interval_s * np.arange(count)
    high, low = np.maximum(opening, close), np.minimum(opening, close)
    return Candles(ts, opening, high, low, close, np.ones(count), float(interval_s), "made.csv", "0" * 64)


# --- the simulator ----------------------------------------------------------------------------------------------------


def engine_model(parameters, **changes):
    values = {**parameters, **changes}
    values["reversion_per_year"] = np.log(2) * 365 / values.pop("reversion_half_life_days")
    return log_ou_kou(**{name: jnp.asarray(value) for name, value in values.items()})


def test_without_jumps_the_simulator_walks_the_path_of_the_engine():
    numbers = Numbers.draw(np.random.default_rng(1), 2000)
    parameters = {**TRUTH, "jumps_per_year": 0.0}
    model = engine_model(parameters)
    dt, one = jnp.asarray(60 / SECONDS_PER_YEAR), jnp.asarray(1.0)

    def step(state, normals):
        shocks = shocks_of(model, state, normals[0], normals[1], jnp.ones_like(normals[0]) * 0.5, dt)
        state, _ = model.step(state, shocks, dt, one)
        return state, state.log_price

    number = jnp.result_type(float)  # whatever precision the engine runs in
    normals = jnp.stack([numbers.returns, numbers.volatility], axis=1, dtype=number)[..., None]
    _, path = jax.lax.scan(step, start_of(model, jnp.asarray(numbers.start, number)), normals)
    ours = np.cumsum(simulate(parameters, numbers, 60.0), dtype=np.float64)
    np.testing.assert_allclose(ours, np.asarray(path)[:, 0], atol=2e-6 * np.sqrt(2000))


def test_returns_with_jumps_have_the_law_of_the_engine():
    # 100,000 returns each: Kolmogorov-Smirnov sees laws that lie more than 0.011 apart (p < 1e-5); jumps that went the
    # wrong way, a share of 0.3 x 0.2 of the returns, would be 0.06 apart.
    count, step_s = 100_000, 12_000.0
    dt = step_s / SECONDS_PER_YEAR
    rng = np.random.default_rng(2)
    model = engine_model(CALM)
    draws = (rng.standard_normal(count), rng.standard_normal(count), rng.random(count))
    start = start_of(model, jnp.zeros(count))
    shocks = shocks_of(model, start, *map(jnp.asarray, draws), jnp.asarray(dt))
    state, _ = model.step(start, shocks, jnp.asarray(dt), jnp.asarray(1.0))
    theirs = np.asarray(state.log_price)
    ours = simulate(CALM, Numbers.draw(rng, count), step_s)
    assert ks_2samp(ours, theirs).pvalue > 1e-5
    wrong = simulate({**CALM, "jump_up_probability": 0.6}, Numbers.draw(rng, count), step_s)
    assert ks_2samp(wrong, theirs).pvalue < 1e-5


def test_jumps_are_exponential_in_both_directions():
    only_jumps = {**CALM, "volatility": 1e-9, "jumps_per_year": 100.0}
    returns = simulate(only_jumps, Numbers.draw(np.random.default_rng(3), 1_000_000), 86_400.0)
    jumps = returns[np.abs(returns - np.median(returns)) > 1e-6] - np.median(returns)
    share = 100 / 365
    assert abs(len(jumps) - 1e6 * share) < 5 * np.sqrt(1e6 * share * (1 - share))
    up, down = jumps[jumps > 0], -jumps[jumps < 0]
    assert abs(len(up) / len(jumps) - 0.4) < 5 * np.sqrt(0.24 / len(jumps))
    assert kstest(up, "expon", args=(0, 0.012)).pvalue > 1e-5
    assert kstest(down, "expon", args=(0, 0.016)).pvalue > 1e-5


def test_the_price_expects_to_stay_where_it_is():
    returns = simulate(TRUTH, Numbers.draw(np.random.default_rng(4), 2_000_000), 3600.0)
    growth = np.exp(returns.astype(np.float64)) - 1
    assert abs(growth.mean()) < 5 * growth.std() / np.sqrt(len(growth))


def test_steps_of_a_quarter_of_an_hour_have_the_moments_of_the_engines_minutes():
    windows = Windows.of(candles_of(TRUTH, years=0.1, seed=0))
    draws = {}
    for step_s in (60.0, 900.0):
        rng = np.random.default_rng(5)
        pieces = [long_run_moments(TRUTH, windows, rng, years=10, step_s=step_s).vector() for _ in range(6)]
        draws[step_s] = np.array(pieces)
    difference = draws[60.0].mean(axis=0) - draws[900.0].mean(axis=0)
    error = np.sqrt(sum(pieces.var(axis=0, ddof=1) / 6 for pieces in draws.values()))
    # The bias allowed for is about one per cent. Six pieces of ten years see a typical moment that is 7 % off and the
    # least certain one, the far quantile of a day, when it is 30 % off.
    assert np.all(np.abs(difference) < 0.015 + 5 * error)
    assert np.median(5 * error) < 0.07
    assert np.all(5 * error < 0.3)


# --- the fit ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    return candles_of(TRUTH, years=3, seed=6)


@pytest.fixture(scope="module")
def recovered(made):
    patch = pytest.MonkeyPatch()
    patch.setattr(fitting, "GOODNESS_YEARS", 200.0)
    told = []
    fit = fit_candles(made, simulated_years=30, seed=6, on_progress=told.append)
    patch.undo()
    assert told[0] == "measuring 26280 bars"
    return fit


@pytest.mark.parametrize("name", [name for name in TRUTH if name != "drift"])
def test_the_fit_recovers_the_parameters_of_a_made_market(recovered, name):
    assert abs(recovered.parameters[name] - TRUTH[name]) < 5 * recovered.standard_errors[name]


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("volatility", 0.12),
        ("log_volatility_sd", 0.12),
        ("reversion_half_life_days", 0.8),
        ("leverage_correlation", 0.25),
        ("jumps_per_year", 500.0),
        ("jump_volatility_exponent", 0.5),
        ("jump_up_probability", 0.25),
        ("jump_up_mean", 0.005),
        ("jump_down_mean", 0.005),
    ],
)
def test_standard_errors_are_small_enough_to_say_something(recovered, name, resolution):
    assert 0 < recovered.standard_errors[name] < resolution


def test_a_wrong_volatility_lies_outside_five_standard_errors(recovered):
    assert (
        abs(recovered.parameters["volatility"] - 1.6 * TRUTH["volatility"])
        > 5 * recovered.standard_errors["volatility"]
    )


def test_the_fitted_model_has_the_tails_of_the_data(recovered):
    assert [row["horizon"] for row in recovered.goodness[::6]] == ["1h", "1d", "1h after calm days"]
    for row in recovered.goodness:
        assert 1 / 1.5 < row["ratio"] < 1.5
        assert row["ratio"] == pytest.approx(row["model"] / row["data"], rel=1e-3)
        assert 0 < row["data_standard_error"] < abs(row["data"])


def test_a_fit_writes_a_model_file_that_can_be_read(recovered, tmp_path):
    write_model(tmp_path / "made.toml", recovered, command="calibrate fit made.csv -o made.toml")
    model = read_model(tmp_path / "made.toml")
    assert model.parameters == recovered.parameters
    assert model.standard_errors == recovered.standard_errors


@pytest.mark.parametrize("family", ["constant", "log-ou-kou"])
def test_the_same_candles_and_seed_write_the_same_file_twice(made, tmp_path, monkeypatch, family):
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 10.0)
    monkeypatch.setattr(targets, "BOOTSTRAPS", 50)
    for name in ("one", "two"):
        fit = fit_candles(made, family=family, seed=3, simulated_years=2)
        write_model(tmp_path / name, fit, command="calibrate fit made.csv")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_constant_volatility_is_recovered_with_its_standard_error(monkeypatch):
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 10.0)
    candles = candles_of({"volatility": 0.7, "drift": 0.0}, years=2, seed=7)
    fit = fit_candles(candles, family="constant")
    error = fit.standard_errors["volatility"]
    assert set(fit.parameters) == {"volatility", "drift"}
    assert abs(fit.parameters["volatility"] - 0.7) < 5 * error
    # From n independent normal returns the standard error is volatility / sqrt(2 n).
    assert error == pytest.approx(0.7 / np.sqrt(2 * candles.bars), rel=0.5)
    assert all(0.9 < row["ratio"] < 1.1 for row in fit.goodness if row["horizon"] == "1h")


@pytest.mark.parametrize(("interval_s", "horizons"), [(300, ["1h", "1d"]), (14_400, ["4h", "1d"]), (86_400, ["1d"])])
def test_bars_of_any_length_are_fitted(monkeypatch, interval_s, horizons):
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 10.0)
    monkeypatch.setattr(targets, "BOOTSTRAPS", 50)
    years = {300: 0.2, 14_400: 1, 86_400: 3}[interval_s]
    fit = fit_candles(candles_of(TRUTH, years=years, seed=8, interval_s=interval_s), simulated_years=4)
    measured = list(dict.fromkeys(row["horizon"] for row in fit.goodness if "after" not in row["horizon"]))
    assert measured == horizons
    assert fit.parameters["volatility"] == pytest.approx(TRUTH["volatility"], rel=0.5)


def test_returns_across_gaps_do_not_reach_the_fit(monkeypatch):
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 10.0)
    whole = candles_of({"volatility": 0.7, "drift": 0.0}, years=0.5, seed=9)
    keep = np.ones(whole.bars, bool)
    keep[2000:2003] = False
    # Behind the gap the market stands at ten times its price: one return that would rule the volatility.
    shift = np.where(np.arange(whole.bars) >= 2000, 10.0, 1.0)[keep]
    columns = {name: getattr(whole, name)[keep] * shift for name in ("open", "high", "low", "close")}
    torn = replace(whole, ts=whole.ts[keep], volume=whole.volume[keep], **columns)
    assert torn.gaps == 1
    fit = fit_candles(torn, family="constant")
    assert abs(fit.parameters["volatility"] - 0.7) < 5 * fit.standard_errors["volatility"]


def fails(candles, **options):
    with pytest.raises(UserError) as caught:
        fit_candles(candles, **options)
    return str(caught.value)


def test_candles_that_cannot_carry_a_fit_are_refused(made):
    def part(rows, **changes):
        columns = {name: getattr(made, name)[rows] for name in ("ts", "open", "high", "low", "close", "volume")}
        return replace(made, **{**columns, **changes})

    few = fails(part(slice(0, 500)), family="sabr")
    assert "found 500 bars; expected at least 1000" in few
    assert "found 20.8 days of bars; expected at least 30" in few
    assert "found 'sabr'; expected 'log-ou-kou' or 'log-ou-two-factor' or 'heston'" in few
    assert "expected a day or less" in fails(part(slice(0, 2000), interval_s=7 * 86_400.0))
    still = fails(part(slice(0, 2000), close=np.full(2000, 5.0)))
    assert "column close: found 0 as the 0.001 quantile of returns" in still
    holes = fails(part(np.flatnonzero(np.arange(made.bars) % 20)))
    assert "found 0 windows of a day without a missing bar" in holes


# --- the shipped models -----------------------------------------------------------------------------------------------


def test_the_model_of_doge_has_the_tails_that_its_text_states():
    """Falls within 15 %, rises too, but for the best day in a thousand, of which the data hold one."""
    model = read_model(ROOT / "models" / "doge-usd.toml")
    assert model.family == "log-ou-two-factor"
    tails = {(row["horizon"], row["quantile"]): row for row in model.goodness if row["horizon"] in ("1h", "1d")}
    best_day = tails.pop(("1d", 0.999))
    assert len(tails) == 11
    assert all(1 / 1.15 < row["ratio"] < 1.15 for row in tails.values())
    assert best_day["ratio"] == pytest.approx(0.58, abs=0.01)
    assert abs(best_day["model"] - best_day["data"]) < best_day["data_standard_error"]


STRESSED = ("btc", "eth", "sol", "link", "doge")


@pytest.mark.parametrize("coin", STRESSED)
def test_stressed_models_are_of_crash_windows_and_as_wild_as_these(coin):
    """Of quantiles of an hour and of a day, of which 90 to 154 days hold a handful, each within three of its errors; falls are
    larger than in the usual model."""
    stressed, usual = (read_model(ROOT / "models" / f"{coin}-usd{kind}.toml") for kind in ("-stressed", ""))
    assert len(stressed.fit["windows"]) >= 2
    assert 90 * 24 <= stressed.fit["bars"] < 0.2 * usual.fit["bars"]
    assert all(f"--window {window}" in stressed.fit["command"] for window in stressed.fit["windows"])
    for row, calmer in zip(stressed.goodness[:12], usual.goodness[:12], strict=True):
        assert abs(row["model"] - row["data"]) < 3 * row["data_standard_error"]
        assert row["quantile"] > 0.5 or 1 < row["model"] / calmer["model"] < 3


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_have_the_tails_of_the_real_market_on_fresh_random_numbers(name, monkeypatch):
    path = MARKET_DATA / "candles_1h" / SHIPPED[name]
    if not path.exists():
        pytest.skip(f"{path} is absent; set CALIBRATE_MARKET_DATA to the folder of market data")
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 300.0)
    monkeypatch.setattr(targets, "BOOTSTRAPS", 20)
    model = read_model(ROOT / "models" / f"{name}.toml")
    candles = read_candles(path, allow_gaps=True)
    assert candles.sha256 == model.fit["sha256"]

    rows = measure_goodness(candles, model.parameters, seed=12345)
    assert len(rows) == len(model.goodness) == 16
    for fresh, recorded in zip(rows, model.goodness, strict=True):
        assert fresh["data"] == recorded["data"]
        assert 1 / 1.5 < fresh["ratio"] < 1.5
        # At 300 years the far quantile of a day varies by about 3 %: a table from another model would be seen.
        assert fresh["model"] == pytest.approx(recorded["model"], rel=0.15)


@pytest.mark.parametrize("name", SHIPPED)
def test_recorded_goodness_of_shipped_models_is_within_the_stated_factor(name):
    model = read_model(ROOT / "models" / f"{name}.toml")
    assert model.family == "log-ou-kou"
    tails = [row for row in model.goodness if row["horizon"] in ("1h", "1d")]
    assert len(tails) == 12
    assert all(1 / 1.15 < row["ratio"] < 1.15 for row in tails)
    assert all(1 / 1.5 < row["ratio"] < 1.5 for row in model.goodness)
