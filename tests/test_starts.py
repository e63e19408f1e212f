"""A history replayed from many starts: which starts there are, each as if it were alone, errors that know that windows overlap,
and what the command writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_job
from command_line import call

from calibrate.assemble import assemble
from calibrate.data.candles import read_candles
from calibrate.data.starts import Starts, starts_of
from calibrate.errors import UserError
from calibrate.job import load_job
from calibrate.over_starts import NONE, SHORT, WORST, OverStarts
from calibrate.rolling import FIELDS, Rolling, outcomes_by_start
from calibrate.simulate import simulate

HOUR = 3_600_000
BEGIN = pd.Timestamp("2020-03-11").value // 10**6


def made(bars: int = 40, *, seed: int = 2) -> pd.DataFrame:
    """Bars of six hours, some of which fall far."""
    rng = np.random.default_rng(seed)
    ways = np.where(rng.uniform(size=(bars, 1)) < 0.1, -0.015, 0.0) + 0.012 * rng.standard_normal((bars, 6))
    way = np.exp(np.cumsum(ways).reshape(bars, 6))
    opened = 200 * np.concatenate([[1.0], way[:-1, -1]])
    inside = np.column_stack([opened, 200 * way])
    columns = {"open": opened, "high": inside.max(1), "low": inside.min(1), "close": inside[:, -1], "volume": 1.0}
    return pd.DataFrame({"ts": BEGIN + 6 * HOUR * np.arange(bars)} | columns)


def job(folder: Path, bars: pd.DataFrame, *overrides: str):
    bars.to_csv(folder / "bars.csv", index=False)
    text = small_job.TEXT.replace("volatility = 1.0", 'volatility = 1.0\nreplay = "bars.csv"', 1)
    return load_job(small_job.write(folder, text), list(overrides))


# --- which starts there are -----------------------------------------------------------------------------------------------


def starts(folder: Path, bars: pd.DataFrame, **asked: int | None) -> Starts:
    bars.to_csv(folder / "bars.csv", index=False)
    usual = {"every_ms": 12 * HOUR, "length_ms": 24 * HOUR, "first_ms": None, "end_ms": None}
    candles = read_candles(folder / "bars.csv", allow_gaps=True)
    return starts_of(candles, **(usual | asked), place="--every-hours")  # type: ignore[arg-type]


def test_windows_start_so_far_apart_and_end_within_the_file(tmp_path: Path) -> None:
    found = starts(tmp_path, made(12))
    np.testing.assert_array_equal((found.ts - BEGIN) / HOUR, [0, 12, 24, 36, 48])
    assert found.whole.all()
    assert found.side_by_side == 2.5
    between = starts(tmp_path, made(12), first_ms=BEGIN + 6 * HOUR, end_ms=BEGIN + 48 * HOUR)
    np.testing.assert_array_equal((between.ts - BEGIN) / HOUR, [6, 18])


def test_windows_with_gaps_are_left_out_and_others_are_not(tmp_path: Path) -> None:
    """Without the bar from 30:00 to 36:00, windows from 12:00 and 24:00 lack one; without that from 48:00 on, so do those
    from 36:00 and 48:00."""
    found = starts(tmp_path, made(16).drop(index=[5, 8]))
    np.testing.assert_array_equal((found.ts[~found.whole] - BEGIN) / HOUR, [12, 24, 36, 48])


SAID: dict[str, tuple[dict[str, int], list[str]]] = {
    "inside bars": (
        {"every_ms": 7 * HOUR, "first_ms": BEGIN + HOUR},
        ["the first start is not a whole number of bars of 6 h", "the distance between starts is not a whole number"],
    ),
    "no room": ({"length_ms": 66 * HOUR}, ["found 3 d of history for windows of 2.75 d every 12 h; expected room for at least 2"]),
    "before the file": ({"first_ms": BEGIN - 6 * HOUR}, ["found 2020-03-10T18:00:00Z to 2020-03-14T00:00:00Z; bars.csv has"]),
    "a bar": ({"length_ms": 6 * HOUR}, ["found a horizon of 6 h; expected at least two bars of 6 h"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_starts_that_cannot_be_are_refused_all_at_once(tmp_path: Path, name: str) -> None:
    asked, said = SAID[name]
    with pytest.raises(UserError) as caught:
        starts(tmp_path, made(12), **asked)
    assert len(caught.value.problems) == len(said)
    for problem, text in zip(caught.value.problems, said, strict=True):
        assert text in str(problem)


# --- each start -----------------------------------------------------------------------------------------------------------


def test_every_start_comes_to_what_it_comes_to_alone(tmp_path: Path) -> None:
    """The same steps on the same numbers, put together otherwise by the compiler: equal but for rounding."""
    double = "simulation.precision=float64"
    assembled = assemble(job(tmp_path, made(16), double))
    candles = read_candles(tmp_path / "bars.csv")
    found = starts_of(
        candles, every_ms=24 * HOUR, length_ms=24 * HOUR, first_ms=None, end_ms=None, place="--every-hours"
    )
    rolling = Rolling(candles, found, assembled.scenario)
    each = list(outcomes_by_start(rolling, assembled.incumbent, seed=5, paths=64))
    for ts, outcome in zip(found.ts, each, strict=True):
        alone = assemble(job(tmp_path, made(16), double, f"market.from={pd.Timestamp(ts, unit='ms').isoformat()}"))
        sample = simulate(alone.scenario, alone.incumbent, seed=5, paths=64)
        for name in FIELDS:
            np.testing.assert_allclose(outcome[name], sample.values[name], rtol=1e-10, atol=1e-12)
    assert len({outcome["liquidated"].mean() for outcome in each}) == len(each) == 4


# --- over starts ----------------------------------------------------------------------------------------------------------


def regular(number: int, windows: float = 1.0) -> Starts:
    """That many starts, all whole, with windows as long as `windows` times the distance between them."""
    return Starts(np.arange(number) * HOUR, np.ones(number, bool), HOUR, round(windows * HOUR))


def overlapping(number: int, window: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of independent normals over windows that overlap."""
    return np.convolve(rng.standard_normal(number + window - 1), np.ones(window), mode="valid")


@pytest.mark.parametrize("window", [1, 8])
def test_errors_of_means_are_the_spread_of_means_over_many_histories(window: int) -> None:
    """Over 400 histories the root mean square of errors is known to about 2 %, the spread of means to 3.5 %. Of overlapping
    windows a ninth of the covariance is beyond a block; errors that took starts for independent would be 0.36 of the spread."""
    rng = np.random.default_rng(3)
    over = OverStarts(regular(1200, window))
    found = [over.mean(overlapping(1200, window, rng)) for _ in range(400)]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    told = np.sqrt(np.mean([estimate.standard_error**2 for estimate in found]))
    expected = np.sqrt(8 / 9) if window > 1 else 1.0
    assert abs(told / spread / expected - 1) < 5 * 0.04


@pytest.mark.parametrize("window", [1, 6])
def test_intervals_hold_the_truth_as_often_as_they_say(window: int) -> None:
    """Means are 0, the ninth decile of such sums is known. Of 400 intervals of 95 %, 380 +- 4.4 hold it; blocks see a ninth of the
    covariance too little and quantiles are coarse, which costs up to 3 per cent."""
    rng = np.random.default_rng(4)
    over, tenth = OverStarts(regular(800, window)), 1.2815515655 * np.sqrt(window)
    hits = {"mean": 0, "quantile": 0}
    for _ in range(400):
        values = overlapping(800, window, rng)
        for name, estimate, truth in (
            ("mean", over.mean(values), 0.0),
            ("quantile", over.quantile(values, 0.9), tenth),
        ):
            hits[name] += estimate.interval[0] <= truth <= estimate.interval[1]
    for held in hits.values():
        assert 0.92 - 5 * 0.0136 < held / 400 <= 0.98 + 5 * 0.007


def test_a_start_that_is_left_out_counts_for_nothing() -> None:
    """Errors with a hole are those of the sum over what is there, by hand."""
    values = np.random.default_rng(5).standard_normal(60)
    whole = np.ones(60, bool)
    whole[20:27] = False
    over = OverStarts(regular(60, 2)._replace(whole=whole))
    rest = np.where(whole, values - values[whole].mean(), 0.0)
    sums = [rest[k : k + 6].sum() for k in range(55)]
    expected = np.sqrt(60 / 6 * np.mean(np.square(sums)) * 60 / 54) / 53
    assert over.block == 6
    found = over.mean(values[whole])
    assert found.value == pytest.approx(values[whole].mean())
    assert found.standard_error == pytest.approx(expected)


def test_what_a_history_cannot_tell_is_said() -> None:
    over = OverStarts(regular(120, 2))
    never = over.share(np.zeros(120))
    assert never.value == 0
    assert never.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 60)))  # 60 windows side by side without one
    assert never.standard_error > 0
    assert over.mean(np.zeros(120)).warning == NONE
    assert over.quantile(np.arange(120.0), 0.999).warning == WORST
    short = OverStarts(regular(20, 2)).mean(np.arange(20.0))
    assert np.isnan(short.standard_error)
    assert short.warning == SHORT


# --- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_row_a_start_and_tells_the_worst(tmp_path: Path) -> None:
    bars, folder = tmp_path / "bars.csv", tmp_path / "out"
    made().drop(index=[30]).to_csv(bars, index=False)
    asked = ("--market", f"replay:{bars}", "--every-hours", 12, "--set", "simulation.paths=1024",
             "--set", "simulation.optimiser_paths=100")  # fmt: skip
    written = small_job.write(tmp_path)
    code, out, err = call("simulate", written, *asked, "--json", "-o", folder)
    assert code == 0, err
    assert "2 of 19 starts are left out" in err
    result = json.loads(out)
    files = ("metrics.json", "run.toml", "starts.csv", "starts.html", "starts.parquet", "starts.png", "starts.svg")
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    rows = pd.read_csv(folder / "starts.csv")
    assert (len(rows), result["starts"], result["left_out"]) == (17, 17, 2)
    for name in ("insolvency_probability", "bad_debt", "liquidated"):
        assert result["metrics"][name]["value"] == pytest.approx(rows[name].mean())
    # The worst first, and none that shares time with a worse one.
    worst = pd.DataFrame(result["worst"])
    assert worst["bad_debt"][0] == pytest.approx(rows["bad_debt"].max())
    assert worst["bad_debt"].is_monotonic_decreasing
    apart = pd.to_datetime(worst["start"]).sort_values().diff().dropna()
    assert (apart >= pd.Timedelta("24h")).all()
    # One of them by itself is a replay as ever.
    row = rows.iloc[3]
    window = ("--from", row["start"], "--to", row["end"])
    code, out, err = call("simulate", written, *asked[:2], *window, *asked[4:], "--json", "-o", tmp_path / "one")
    assert code == 0, err
    alone = json.loads(out)["metrics"]
    for name in ("insolvency_probability", "bad_debt", "liquidated", "user_cost", "margin_per_oi"):
        assert alone[name]["value"] == pytest.approx(row[name], rel=1e-4, abs=1e-8)


WRONG = {
    "no replay": (["--every-hours", "6"], "--every-hours: says how far apart replays start; add --market"),
    "no distance": (["--market", "replay:{}", "--every-hours", "0"], "--every-hours: found 0; expected a number above 0"),
    "no room": (["--market", "replay:{}", "--every-hours", "240"], "expected room for at least 2"),
    "no date": (["--market", "replay:{}", "--every-hours", "6", "--from", "soon"], "--from: found 'soon'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_the_command_cannot_do_is_told_and_nothing_is_left_behind(tmp_path: Path, name: str) -> None:
    arguments, said = WRONG[name]
    made().to_csv(tmp_path / "bars.csv", index=False)
    place = tmp_path / "bars.csv"
    given = [text.format(place) for text in arguments]
    code, out, err = call("simulate", small_job.write(tmp_path), *given, "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.csv", "small.toml"]
