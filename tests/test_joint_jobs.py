"""Several markets in one world: insolvencies together, one fund for all, and a joint model that candles are fitted to."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_job
from joint_truth import joint_returns
from scipy.signal import lfilter
from statistical import assert_close
from typer.testing import CliRunner

from calibrate.assemble import assemble
from calibrate.cli import app
from calibrate.data.candles import Candles
from calibrate.errors import UserError
from calibrate.job import load_job
from calibrate.joint import Together, figures, share_of_separate, simulate_together
from calibrate.joint_evidence import with_evidence
from calibrate.market.joint_files import JointModel, joint_text
from calibrate.market.joint_fit import Aligned, fit_joint, maximum_likelihood
from calibrate.market.joint_levels import levels_of
from calibrate.market.schema import Parts
from calibrate.progress import Silent
from calibrate.units import SECONDS_PER_YEAR

PATHS = 8192


def world(folder: Path, correlation: float, *, name: str = "world.toml") -> Path:
    """A joint model of two assets, of which nothing but diffusions is related."""
    parts, numbers = Parts("constant"), {"volatility": 1.2, "drift": 0.0}
    matrix = np.array([[1.0, correlation], [correlation, 1.0]])
    made = JointModel(
        ("A", "B"), None, None, {}, {"calm": matrix}, {"A": (parts, numbers), "B": (parts, numbers)}, name, "", {}, {},
        {}, {}, [], [],
    )  # fmt: skip
    (folder / name).write_text(joint_text(made))
    return folder / name


def market(folder: Path, name: str, asset: str | None, *, model: str = "world.toml", **changes: str) -> Path:
    """The small job in an asset of the world."""
    chosen = f'model = "{model}"' + (f'\nasset = "{asset}"' if asset else "")
    text = small_job.TEXT.replace("volatility = 1.0\n\n[oracle]", f"{chosen}\n\n[oracle]").replace("SMALL", name)
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def together(*jobs: Path, fund_usd: float | None = None) -> Together:
    return simulate_together([load_job(job) for job in jobs], paths=PATHS, fund_usd=fund_usd, listener=Silent())


def test_two_venues_of_one_asset_meet_the_same_prices(tmp_path: Path) -> None:
    world(tmp_path, 0.5)
    found = together(market(tmp_path, "one", "B"), market(tmp_path, "two", "B"))
    assert found.joint.insolvent.any()
    np.testing.assert_array_equal(found.joint.usd[0], found.joint.usd[1])
    assert not np.array_equal(found.independent.usd[0], found.independent.usd[1])
    assert share_of_separate(found.joint.usd, 0.99).value == pytest.approx(1.0, rel=1e-12)
    told = figures(found)
    assert told["insolvent_at_least"]["1"]["joint"] == told["insolvent_at_least"]["2"]["joint"]
    assert told["insolvent_given"]["one"]["two"]["value"] == 1.0


def test_unrelated_assets_are_insolvent_together_by_chance_alone(tmp_path: Path) -> None:
    """At correlation zero, both samples are of the same law, whose joint probability is the product. An error of 2.5 % of all paths
    would be seen."""
    world(tmp_path, 0.0)
    found = together(market(tmp_path, "one", "A"), market(tmp_path, "two", "B"))
    each = found.joint.insolvent.mean(axis=1)
    assert (each > 0.01).all()
    for needs in (found.joint, found.independent):
        both = needs.insolvent.all(axis=0)
        # The estimated product's own error is small against that of the count.
        centred = (needs.insolvent[0] - needs.insolvent[0].mean()) * (needs.insolvent[1] - needs.insolvent[1].mean())
        assert_close(centred.mean(), max(both.std(), 0.02) / np.sqrt(PATHS), 0.0, resolution=0.025)


def test_a_shared_crash_is_seen_in_the_fund(tmp_path: Path) -> None:
    world(tmp_path, 0.95)
    jobs = market(tmp_path, "one", "A"), market(tmp_path, "two", "B")
    told = figures(together(*jobs))
    both = told["insolvent_at_least"]["2"]
    assert both["joint"]["interval"][0] > 2 * both["independent"]["interval"][1]
    fund = told["one_fund"]
    assert fund["fund_usd"] == 600e3
    assert fund["need_es_usd"]["joint"]["interval"][0] > fund["need_es_usd"]["independent"]["interval"][1]
    assert figures(together(*jobs, fund_usd=1e12))["one_fund"]["not_enough"]["joint"]["value"] == 0


def test_a_fund_alone_says_insolvency_as_a_simulation_does(tmp_path: Path) -> None:
    """What a market needs exceeds its fund exactly where the engine calls it insolvent."""
    world(tmp_path, 0.5)
    found = together(market(tmp_path, "one", "A"), market(tmp_path, "two", "B"))
    np.testing.assert_array_equal(found.joint.usd > 300e3, found.joint.insolvent)
    assert (found.joint.usd >= 0).all()


@pytest.mark.parametrize(
    ("asset", "model", "phrases"),
    [
        (None, "world.toml", ["market.asset", "missing", "A, B"]),
        ("C", "world.toml", ["market.asset", "'C'", "A, B"]),
        ("A", "eth-usd", ["market.asset", "'A'", "one market"]),
        ("A", "nowhere", ["market.model", "'nowhere'"]),
    ],
)
def test_a_job_says_which_asset_it_is_about(tmp_path: Path, asset: str | None, model: str, phrases: list[str]) -> None:
    world(tmp_path, 0.5)
    with pytest.raises(UserError) as raised:
        assemble(load_job(market(tmp_path, "one", asset, model=model)))
    for phrase in phrases:
        assert phrase in str(raised.value)


def test_markets_of_different_worlds_or_steps_are_refused(tmp_path: Path) -> None:
    world(tmp_path, 0.5)
    world(tmp_path, 0.4, name="other.toml")
    one = market(tmp_path, "one", "A")
    with pytest.raises(UserError, match="different joint models"):
        together(one, market(tmp_path, "two", "B", model="other.toml"))
    with pytest.raises(UserError, match=r"three\.toml: simulation\.step_s: found 3600.*expected 7200"):
        together(one, market(tmp_path, "three", "B", **{"step_s = 7200": "step_s = 3600"}))
    with pytest.raises(UserError, match=r"market: found volatility = 1; expected `model`"):
        together(one, small_job.write(tmp_path))


def test_the_command_writes_figures_and_a_picture(tmp_path: Path) -> None:
    world(tmp_path, 0.9)
    jobs = [str(market(tmp_path, name, asset)) for name, asset in (("one", "A"), ("two", "B"))]
    folder = tmp_path / "found"
    arguments = ["joint", *jobs, "-o", str(folder)]
    made = CliRunner().invoke(app, [*arguments, "--json"])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert json.loads((folder / "joint.json").read_text())["one_fund"] == told["one_fund"]
    table = pd.read_csv(folder / "one_fund.csv")
    assert (table["low"] <= table["probability"]).all()
    assert (table["probability"] <= table["high"]).all()
    assert {path.suffix for path in folder.glob("one_fund.*")} == {".csv", ".parquet", ".html", ".svg", ".png"}
    with pytest.raises(UserError, match="exists already"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    shown = CliRunner().invoke(app, arguments[:-2])
    assert "2 or more markets" in shown.stdout
    assert "if markets were independent" in shown.stdout


# --- the fit --------------------------------------------------------------------------------------------------------------

HOUR_YEARS = 3600 / SECONDS_PER_YEAR
TRUE = {
    "volatility": np.array([0.5, 0.8]),
    "calm": np.array([[1, 0.4], [0.4, 1]]),
    "crash": np.array([[1, 0.85], [0.85, 1]]),
    "crash_volatility": np.array([3.0, 2.5]),
    "beta": np.array([1.0, 1.4]),
}


@pytest.fixture(scope="module")
def made() -> np.ndarray:
    """Hourly returns of eight months that plain loops made up."""
    return joint_returns(
        **TRUE, crashes_per_year=150.0, crash_hours=20.0, crash_jumps=2.0, shared=(80.0, -0.06, 0.03),
        own=np.array([[60.0, 0.0, 0.06], [60.0, 0.02, 0.06]]), step_years=HOUR_YEARS, steps=6000, paths=1,
        rng=np.random.default_rng(5),
    )[:, :, 0]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(made: np.ndarray) -> JointModel:
    candles = {name: candles_of(made[:, k], name) for k, name in enumerate(("A", "B"))}
    return with_evidence(fit_joint(candles), candles, years=20)


def candles_of(returns: np.ndarray, name: str) -> Candles:
    close = 100 * np.exp(np.cumsum(np.concatenate([[0.0], returns])))
    ts = 1_700_000_000_000 // 3_600_000 * 3_600_000 + 3_600_000 * np.arange(len(close))
    return Candles(ts, close, close, close, close, np.ones_like(close), 3600.0, f"{name}.csv", name)


@pytest.mark.slow
def test_the_likelihood_finds_the_world_that_made_the_returns(made: np.ndarray) -> None:
    """Within five standard errors; resolutions say how small an error would be seen, and are those of eight months."""
    found = maximum_likelihood(("A", "B"), Aligned(made, np.arange(len(made)), 0, 3600.0))
    expected = {
        "volatility": (TRUE["volatility"], 0.4), "crash_volatility_multiplier": (TRUE["crash_volatility"], 3.0),
        "calm": (TRUE["calm"], 0.3), "crash": (TRUE["crash"], 0.4), "shared_jump_beta": (TRUE["beta"], 3.0),
        "jump_mean": (-0.06, 0.1), "jump_sd": (0.03, 0.1), "own_sd": (np.array([0.06, 0.06]), 0.2),
        "jumps_per_year": (80.0, 600.0), "crashes_per_year": (150.0, 400.0), "crash_hours": (20.0, 60.0),
    }  # fmt: skip
    for name, (true, resolution) in expected.items():
        values, errors = np.atleast_1d(found.values[name]), np.atleast_1d(found.errors[name])
        for value, error, one in zip(
            values.ravel(), errors.ravel(), np.broadcast_to(true, values.shape).ravel(), strict=True
        ):
            if error > 1e-9:  # what is one by definition has none
                assert_close(float(value), float(error), float(one), resolution=resolution)
    assert found.notes == ()


def test_levels_find_moods_and_how_they_move_together() -> None:
    """Seven years of hours, log-volatilities of half-life 12 days that are related by 0.7; five standard errors. Two
    years would give a half-life that is a fifth too short, as a mean is taken out that is not known (models/README.md)."""
    bars, sd, rng = 60_000, np.array([0.5, 0.4]), np.random.default_rng(6)
    kept = np.exp(-np.log(2) / 12 / 24)
    changes = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], bars + 5000)
    moods = lfilter([np.sqrt(1 - kept**2)], [1, -kept], changes, axis=0)[5000:]
    returns = 0.01 * np.exp(sd * moods) * rng.standard_normal((bars, 2))
    found = levels_of(returns, 3600.0, np.arange(bars) * 83 // bars, np.random.default_rng(7))
    for k in range(2):
        assert_close(found.sd[k], found.sd_error[k], sd[k], resolution=0.4)
    assert_close(found.half_life_days, found.half_life_error, 12.0, resolution=25.0)
    assert_close(found.correlation[0, 1], found.correlation_error[0, 1], 0.7, resolution=0.6)
    np.testing.assert_allclose(np.mean(found.level**2, axis=0), 1.0)


@pytest.mark.slow
def test_evidence_holds_the_model_against_the_data(fitted: JointModel) -> None:
    rows = {row["what"]: row for row in fitted.dependence}
    assert set(rows) == {
        f"{h}: {what}" for h in ("1h", "1d") for what in ("correlation of returns", "worst hundredth given the other's")
    }
    row = rows["1h: correlation of returns"]
    assert_close(row["data"], row["data_standard_error"], row["model"], resolution=1.0)
    assert {row["asset"] for row in fitted.goodness} == {"A", "B"}
    assert joint_text(fitted).count("[[goodness]]") == len(fitted.goodness)


def test_files_that_do_not_go_together_are_refused() -> None:
    hour = candles_of(np.random.default_rng(1).normal(0, 0.01, 2000), "A")
    late = candles_of(np.random.default_rng(2).normal(0, 0.01, 2000), "B")
    late = Candles(**(late.__dict__ | {"ts": late.ts + 1500 * 3_600_000}))
    with pytest.raises(UserError, match="501 bars that all files have"):
        fit_joint({"A": hour, "B": late})
    with pytest.raises(UserError, match="A 3600 s, B 60 s"):
        fit_joint({"A": hour, "B": Candles(**(hour.__dict__ | {"interval_s": 60.0}))})
    still = Candles(**(hour.__dict__ | {"close": np.full(2001, 100.0)}))
    with pytest.raises(UserError, match="B: found a price that never moves"):
        fit_joint({"A": hour, "B": still})
