"""Forecasts are scored as the textbook says, a right model is found right and a wrong one wrong, and the command writes it down.

Random checks allow five standard errors on pinned seeds.
"""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from command_line import call
from made_returns import BAR, candles_of_returns, garch_returns, student
from scipy.stats import norm
from statistical import assert_law, assert_mean

from calibrate.errors import UserError
from calibrate.market import fit as fitting
from calibrate.market import fit_figures, score, targets
from calibrate.market.comparison import _by_week, _ranking, _row, before, compare_families
from calibrate.market.files import read_model
from calibrate.market.fit import FITS
from calibrate.market.fit_figures import correlations
from calibrate.market.fits.estimate import Estimate, Known, Task
from calibrate.market.periods import period_of, within
from calibrate.market.score import Forecasts, forecast, ranked_probability_score

GARCH = {
    "volatility": 0.9,
    "garch_alpha": 0.1,
    "garch_beta": 0.85,
    "degrees_of_freedom": 5.0,
    "bar_s": 3600.0,
    "drift": 0.0,
}
HOURS = 4000


@pytest.fixture(scope="module")
def candles():
    """Of a GARCH market, whose law the true parameters know."""
    innovations = student(np.random.default_rng(21), 5.0, HOURS * 10 // 9)
    return candles_of_returns(garch_returns(innovations, volatility=0.9, alpha=0.1, beta=0.85))


# --- scores -----------------------------------------------------------------------------------------------------------


def test_the_score_of_normal_members_is_that_of_the_normal_law():
    # Gneiting and Raftery (2007), equation 21. The version for few members has no bias; without its correction it would be
    # 0.056 higher with ten.
    happened = np.repeat([0.0, 1.5], 20_000)
    members = np.random.default_rng(1).standard_normal((len(happened), 10))
    found = ranked_probability_score(members, happened)
    for z in (0.0, 1.5):
        expected = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi)
        assert_mean(found[happened == z], expected, resolution=0.03)


def test_the_score_of_two_members_can_be_counted():
    assert ranked_probability_score(np.array([[0.0, 2.0]]), np.array([3.0]))[0] == pytest.approx((3 + 1) / 2 - 2 / 2)


@pytest.fixture(scope="module")
def forecasts(candles):
    """Of the true model and of one whose volatility is two fifths too low."""
    garch = FITS["garch"]
    found = {}
    for name, volatility in (("true", 0.9), ("low", 0.54)):
        estimate = Estimate(GARCH | {"volatility": volatility}, {})
        known = garch.follow(Estimate(GARCH, {}), candles)
        found[name] = forecast(garch.file_of(estimate), known, candles, 1000, seed=3)
    return found


def test_a_right_models_ranks_are_even(forecasts):
    of_hour = forecasts["true"][0]
    assert of_hour.hours == 1
    assert len(of_hour.below) == 3000
    ranks = (of_hour.below + np.random.default_rng(1).random(len(of_hour.below))) / 1000
    assert_law(ranks, lambda u: u, resolution=0.101)
    wrong = forecasts["low"][0].below / 1000
    with pytest.raises(AssertionError):
        assert_law(wrong, lambda u: u, resolution=0.101)


def test_a_right_models_quantiles_are_kept_and_a_low_ones_broken(forecasts):
    rows = {name: _row(name, own[0], own[0]) for name, own in forecasts.items()}
    assert rows["true"].coverage_99_se == pytest.approx(math.sqrt(0.01 * 0.99 / 3000))
    for side in ("long_99", "short_99"):
        assert abs(getattr(rows["true"], side) - 0.99) < 5 * rows["true"].coverage_99_se
        assert getattr(rows["low"], side) < 0.99 - 5 * rows["low"].coverage_99_se
    for side in ("long_999", "short_999"):
        assert abs(getattr(rows["true"], side) - 0.999) < 5 * rows["true"].coverage_999_se


def test_a_model_that_follows_its_state_beats_one_that_does_not():
    # Volatility changes every day and is known to one of them.
    level = np.where(np.arange(HOURS + 1) // 24 % 2, 1.5, 0.3)
    candles = candles_of_returns(level[:-1] * np.sqrt(BAR) * np.random.default_rng(5).standard_normal(HOURS))
    usual = float(np.sqrt(np.mean(level**2)))
    plain = Estimate(
        GARCH | {"volatility": usual, "garch_alpha": 0.0, "garch_beta": 0.0, "degrees_of_freedom": 500.0}, {}
    )
    model, known = FITS["garch"].file_of(plain), Known(np.log(level / usual), np.zeros(HOURS + 1))
    one, other = (forecast(model, state, candles, 2500, seed=3)[0] for state in (known, None))
    row = _row("garch", one, other)
    assert row.skill > 5 * row.skill_se > 0
    assert row.skill > 0.03


def test_forecasts_over_days_overlap_and_say_so(forecasts):
    assert [(own.hours, own.overlap, len(own.score)) for own in forecasts["true"]] == [
        (1, 1, 3000),
        (4, 4, 2997),
        (24, 6, 745),
    ]


def test_a_followed_state_is_where_paths_start(candles):
    # One bar ahead in a calm as deep as that, every member is near zero.
    calm = Known(np.full(candles.bars, -8.0), np.zeros(candles.bars))
    found = forecast(FITS["garch"].file_of(Estimate(GARCH, {})), calm, candles, candles.bars - 40, seed=3)[0]
    assert np.all((found.below == 0) | (found.below == score.MEMBERS))


def test_errors_are_those_of_weekly_sums():
    rng = np.random.default_rng(2)
    week = np.repeat(np.arange(400), 50)
    alike = np.repeat(rng.standard_normal(400), 50)
    assert _by_week(alike, week)[1] == pytest.approx(1 / math.sqrt(400), rel=0.2)
    assert _by_week(rng.standard_normal(20_000), week)[1] == pytest.approx(1 / math.sqrt(20_000), rel=0.2)


def test_families_are_ranked_by_the_share_of_the_score_that_they_save():
    week = np.arange(100) // 10
    noise = np.random.default_rng(1).random(100)

    def scored(level):
        return [Forecasts(1, level * (1 + noise), np.zeros(100), week, 1.0)]

    ranking = _ranking({"constant": scored(1.0), "kou": scored(0.9), "garch": scored(0.8)})
    assert [(place.rank, place.family) for place in ranking] == [(1, "garch"), (2, "kou"), (3, "constant")]
    assert [place.skill for place in ranking] == pytest.approx([0.2, 0.1, 0.0])
    assert [place.behind for place in ranking] == pytest.approx([0.0, 0.1, 0.2])
    assert [place.state for place in ranking] == ["followed", "none", "none"]


def test_correlations_of_squares_leave_gaps_out():
    returns = np.tile([1.0, 1.0, 3.0, 3.0], 500)
    squares = returns**2
    expected = np.corrcoef(squares[:-1], squares[1:])[0, 1]
    returns[1000] = np.nan
    assert correlations(returns, [1, 4]) == pytest.approx([expected, 1.0], abs=0.01)


# --- fitted before, scored after --------------------------------------------------------------------------------------


def test_bars_before_a_date_close_by_then(candles):
    kept = before(candles, int(candles.ts[1500]))
    assert kept.bars == 1500
    assert kept.close[-1] == candles.close[1499]
    assert before(candles, int(candles.ts[1500]) - 1).bars == 1499


def test_the_future_does_not_reach_the_fit(candles):
    until = int(candles.ts[2400])
    whole = compare_families(candles, ["garch"], until_ms=until)
    close = np.where(candles.ts < until, candles.close, candles.close**3 / candles.close[2399] ** 2)
    wilder = replace(candles, close=close)
    other = compare_families(wilder, ["garch"], until_ms=until)
    assert whole.estimates["garch"].parameters == other.estimates["garch"].parameters
    assert whole.table()["crps_bps"].sum() < 0.6 * other.table()["crps_bps"].sum()
    assert set(whole.table()["family"]) == {"garch", "constant"}


def test_too_little_to_fit_to_or_to_score_on_is_refused(candles):
    with pytest.raises(UserError, match=r"found 900 bars of made.csv before .* expected at least 1000 to fit to"):
        compare_families(candles, until_ms=int(candles.ts[900]))
    with pytest.raises(UserError, match=r"found 3\.0 weeks .* expected at least 8 to score on"):
        compare_families(candles, until_ms=int(candles.ts[-504]))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(candles, tmp_path_factory):
    path = tmp_path_factory.mktemp("candles") / "made.csv"
    table = np.column_stack([candles.ts, *[np.round(candles.close, 8)] * 4, candles.volume])
    np.savetxt(path, table, delimiter=",", header="ts,open,high,low,close,volume", comments="", fmt="%.12g")
    return path


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "GOODNESS_YEARS", 5.0)
        patch.setattr(targets, "BOOTSTRAPS", 20)
        patch.setattr(fit_figures, "HISTORIES", 8)
        yield


def test_a_comparison_is_shown_and_written_whole(file, candles, quick, tmp_path):
    until = str(np.datetime64(int(candles.ts[2400]), "ms"))
    options = ("--compare", "--until", until, "--family", "garch", "-o", tmp_path / "found")
    answer = call("fit", file, *options)
    assert answer.code == 0, answer.err
    assert "garch (1 of 2): fitting 2,400 bars" in answer.err
    assert answer.out.index("garch") < answer.out.index("constant")
    assert "99.9" in answer.out
    names = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert names == sorted(["scores.csv", *(f"{f}.{e}" for f in ("constant", "garch") for e in ("png", "svg", "toml"))])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "found" / "scores.csv").read_text())))
    assert [(row["family"], row["hours"]) for row in rows] == [
        (f, h) for f in ("garch", "constant") for h in ("1", "4", "24")
    ]
    assert read_model(tmp_path / "found" / "garch.toml").fit["bars"] == 2400
    assert (tmp_path / "found" / "garch.png").read_bytes().startswith(b"\x89PNG")

    again = call("fit", file, *options)
    assert again.code == 2
    assert "exists already" in again.err


def test_one_family_is_fitted_drawn_and_told_as_json(file, quick, tmp_path):
    model = tmp_path / "gjr.toml"
    answer = call("fit", file, "--family", "gjr-garch", "--figures", "--json", "--until", "2020-12-01", "-o", model)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    read = read_model(model)
    assert found["parameters"] == read.parameters
    assert read.fit["last"] == "2020-11-30T22:26:40Z"
    assert read.fit["command"].startswith("calibrate fit made.csv --until 2020-12-01 --family gjr-garch -o ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gjr.png", "gjr.svg", "gjr.toml"]


def test_a_fit_to_windows_uses_their_bars_alone_and_says_so(file, candles, quick, tmp_path):
    """In two windows volatility is threefold: the fit to these knows of nothing else, nor of the prices in between."""
    windows = "2020-10-01..2020-10-25", "2021-01-01..2021-01-25T12:00"
    periods = [period_of(text) for text in windows]
    returns = np.random.default_rng(4).standard_normal(candles.bars - 1) * np.sqrt(BAR)
    inside = [(candles.ts >= period.from_ms) & (candles.ts < period.to_ms) for period in periods]
    wild = candles_of_returns(returns * np.where(np.any(inside, axis=0)[1:], 1.8, 0.6))
    kept = within(wild, periods[::-1])
    assert kept.bars == (24 + 24.5) * 24 - 2  # bars begin 26 minutes past the hour: the last of each closes too late
    assert kept.gaps == 1
    assert kept.ts[0] >= periods[0].from_ms
    assert kept.ts[-1] + 3_600_000 <= periods[1].to_ms
    found = FITS["constant"].fit(Task(kept)).parameters["volatility"]
    assert abs(found - 1.8) < 5 * 1.8 / np.sqrt(2 * kept.bars)

    answer = call(
        "fit", file, "--family", "constant", *(x for w in windows for x in ("--window", w)), "-o", tmp_path / "w.toml"
    )
    assert answer.code == 0, answer.err
    fit = read_model(tmp_path / "w.toml").fit
    assert fit["windows"] == list(windows)
    assert (fit["bars"], fit["gaps"]) == (kept.bars, 1)
    assert f"--window {windows[0]} --window {windows[1]}" in fit["command"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--compare"], "expected --until DATE too"),
        (["--until", "soon"], "--until: found 'soon'; expected a date such as 2022-01-01"),
        (["--family", "garch", "--family", "kou"], "found 2 families; expected one, or --compare"),
        (["--family", "garhc"], "found 'garhc'; expected 'log-ou-kou' or "),
        (["--window", "2020-12-01"], "--window: found '2020-12-01'; expected two dates such as 2020-03-07..2020-04-06"),
        (["--window", "2020-12-09..2020-12-01"], "found '2020-12-09..2020-12-01', which ends before it begins"),
        (["--window", "2020-10-01..2020-11-01", "--until", "2020-12-01"], "--window: goes with neither --compare nor"),
        (
            ["--window", "2019-01-01..2019-02-01"],
            "2019-01-01..2019-02-01 holds no bars; made.csv has bars from 2020-09-13",
        ),
        (["--window", "2020-10-01..2020-11-01", "--window", "2020-10-30..2020-12-01"], "overlap; make them one"),
    ],
)
def test_a_wrong_request_is_told_at_once(file, tmp_path, options, said):
    answer = call("fit", file, *options, "-o", tmp_path / "x.toml")
    assert answer.code == 2
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
