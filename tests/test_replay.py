"""A job that replays a history: its window, its market, its figures, what the command writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_job
from command_line import call

from calibrate.assemble import assemble
from calibrate.assemble_replay import history_of, notes_on_replay
from calibrate.course import course
from calibrate.data.history import read_market
from calibrate.errors import UserError
from calibrate.job import load_job
from calibrate.pipeline import other_inputs
from calibrate.replay import replay_overrides
from calibrate.simulate import simulate

START = pd.Timestamp("2020-03-11")
# Six-hour bars in steps of two hours: a bar meets both of its extremes.
STEPS = 12


def table(days: int = 3, *, seed: int = 1) -> pd.DataFrame:
    """Bars of six hours: a wild fall on the second day."""
    rng = np.random.default_rng(seed)
    rows, at = [], 200.0
    for k in range(4 * days):
        drift = -0.04 if 4 <= k < 8 else 0.0
        path = at * np.exp(np.concatenate([[0.0], np.cumsum(drift / 6 + 0.02 * rng.standard_normal(6))]))
        rows.append((path[0], path.max(), path.min(), path[-1], 1.0))
        at = path[-1]
    made = pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume"])
    made.insert(0, "ts", (START + pd.to_timedelta(6 * np.arange(len(made)), unit="h")).strftime("%Y-%m-%d %H:%M"))
    return made


def replaying(folder: Path, *lines: str, bars: pd.DataFrame | None = None) -> Path:
    """The small job with a file of candles beside it, and further lines in [market]."""
    (table() if bars is None else bars).to_csv(folder / "bars.csv", index=False)
    keys = "\n".join(("volatility = 1.0", 'replay = "bars.csv"', *lines))
    return small_job.write(folder, small_job.TEXT.replace("volatility = 1.0", keys, 1))


# --- the window -----------------------------------------------------------------------------------------------------------


def test_a_window_is_as_long_as_the_horizon(tmp_path: Path) -> None:
    loaded = load_job(replaying(tmp_path, "from = 2020-03-12"))
    history = history_of(loaded)
    assert (history.window.first, history.window.bars) == ("2020-03-12T00:00:00Z", 4)
    assert history.earlier is not None
    assert (history.earlier.first, history.earlier.bars) == ("2020-03-11T00:00:00Z", 4)
    assert history_of(load_job(replaying(tmp_path))).window.first == "2020-03-11T00:00:00Z"
    assert tmp_path / "bars.csv" in [path.resolve() for path in other_inputs(loaded)]


def test_a_horizon_that_is_not_given_is_as_long_as_the_window(tmp_path: Path) -> None:
    loaded = load_job(replaying(tmp_path, 'from = "2020-03-11T06:00"', "to = 2020-03-13"))
    assert loaded.job.simulation.horizon_days == 1.75
    assert assemble(loaded).scenario.steps == 21
    same = load_job(
        replaying(tmp_path, "from = 2020-03-11T06:00:00Z", "to = 2020-03-13"), ["simulation.horizon_days=1.75"]
    )
    assert same.job.market == loaded.job.market


SAID = {
    "before the file": (['from = "2020-03-01"'], "2020-03-01T00:00:00Z to 2020-03-02T00:00:00Z; bars.csv has bars from"),
    "after the file": (['from = "2020-03-14"'], "to 2020-03-14T00:00:00Z; choose a window inside that"),
    "inside a bar": (['from = "2020-03-11T01:00"'], "2020-03-11T01:00:00Z and 2020-03-12T01:00:00Z, inside a bar; bars are 6 h"),
    "no time": (['from = "yesterday"'], "market.from: expected a date or time such as 2020-03-12"),
    "the wrong way": (["from = 2020-03-13", "to = 2020-03-12"], "not after `from`"),
    "only an end": (["to = 2020-03-12"], "`to` needs `from`"),
    "another start": (["initial_volatility = 0.5"], "`initial_volatility` has no meaning"),
    "no such market": (['symbol = "ETHUSDT"'], "no column names the market; found ts, open"),
    "no such rows": (['symbol = "volume=7"'], "found no rows with volume=7"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_window_that_cannot_be_replayed_is_refused(tmp_path: Path, name: str) -> None:
    lines, said = SAID[name]
    with pytest.raises(UserError) as caught:
        assemble(load_job(replaying(tmp_path, *lines)))
    assert said in str(caught.value)


def test_a_window_that_is_not_the_horizon_is_refused(tmp_path: Path) -> None:
    lines = ("from = 2020-03-11", "to = 2020-03-13")
    path = replaying(tmp_path, *lines)
    assert not small_job.problems_of(path)
    (problem,) = small_job.problems_of(path, "simulation.horizon_days=1")
    assert "the window from `from` to `to` has 2 days and `simulation.horizon_days` is 1" in str(problem)
    (problem,) = small_job.problems_of(small_job.write(tmp_path), "market.from=2020-03-11")
    assert "`from` belong to a `replay`, and there is none" in str(problem)


def test_gaps_count_where_they_are_in_the_window(tmp_path: Path) -> None:
    """The fall has no bars from 06:00 to 18:00 on the second day."""
    bars = table().drop(index=[5, 6])
    with pytest.raises(UserError, match=r"found 1 gaps with 2 missing bars of 6 h .* first at 2020-03-12T06:00:00Z"):
        history_of(load_job(replaying(tmp_path, "from = 2020-03-12", bars=bars)))
    after = history_of(load_job(replaying(tmp_path, "from = 2020-03-13", bars=bars)))
    assert after.earlier is not None
    assert after.earlier.bars == 1  # what came before the gap is not joined to it


@pytest.mark.parametrize(
    ("column", "value", "said"), [("low", 0.0, "a price of 0"), ("close", "n/a", "column close, row 3")]
)
def test_prices_that_are_none_are_refused(tmp_path: Path, column: str, value: object, said: str) -> None:
    bars = table().astype({column: object})
    bars.loc[2, column] = value
    with pytest.raises(UserError, match=said):
        history_of(load_job(replaying(tmp_path, bars=bars)))


def test_steps_divide_bars(tmp_path: Path) -> None:
    path = replaying(tmp_path)
    with pytest.raises(
        UserError, match=r"simulation.step_s: found 14400 s; bars.csv has bars of 21600 s, .* such as 7200"
    ):
        assemble(load_job(path, ["simulation.step_s=14400"]))
    loaded = load_job(path, ["simulation.step_s=21600"])
    said = notes_on_replay(history_of(loaded), loaded)
    assert "only closes are met; with simulation.step_s=7200 or less" in said[0]
    assert "no" in said[1]
    assert "usual level" in said[1]


def test_a_file_of_several_markets_needs_a_name(tmp_path: Path) -> None:
    both = pd.concat([table().assign(market=m, venue=v) for m in ("A", "B") for v in ("x", "y")])
    both.loc[(both["market"] == "B") & (both["venue"] == "y"), ["open", "high", "low", "close"]] *= 7
    path = replaying(tmp_path, "from = 2020-03-12", bars=both)
    with pytest.raises(UserError, match="as files of several markets have them; name one"):
        history_of(load_job(path))
    with pytest.raises(UserError, match="as files of several markets have them; name one"):
        history_of(load_job(path, ["market.symbol=B"]))
    found = history_of(load_job(path, ["market.symbol='B,venue=y'"])).window
    np.testing.assert_allclose(found.open, 7 * table()["open"].to_numpy()[4:8])


# --- what is simulated ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory):
    loaded = load_job(replaying(tmp_path_factory.mktemp("job"), "from = 2020-03-12"))
    return assemble(loaded)


@pytest.fixture(scope="module")
def sample(assembled):
    return simulate(assembled.scenario, assembled.incumbent, seed=3, paths=1024)


def test_every_path_ends_where_the_history_did(sample) -> None:
    bars = table()
    np.testing.assert_allclose(
        sample.values["final_log_price"], np.log(bars["close"][7] / bars["open"][4]), rtol=0, atol=1e-5
    )
    assert sample.values["liquidated"].std() > 0


def test_the_course_ends_at_the_outcome(assembled, sample) -> None:
    """The same steps in another loop: what stands at the horizon is what metrics are made of."""
    seen = course(assembled.scenario, assembled.incumbent, seed=3, paths=512)
    assert seen.price.shape == (STEPS, 512)
    values = {name: values[:512] for name, values in sample.values.items()}
    np.testing.assert_allclose(seen.liquidated[-1], values["liquidated"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(seen.bad_debt[-1], values["bad_debt"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(seen.user_cost[-1], values["penalty"] + values["slippage"], rtol=1e-5, atol=1e-7)
    assert (np.diff(seen.liquidated, axis=0) >= 0).all()
    assert (seen.lowest <= seen.price).all()
    assert (seen.price <= seen.highest).all()


def test_accounts_and_depth_are_those_of_the_jobs_own_market(assembled, tmp_path: Path) -> None:
    """Only prices are the history's: collateral follows from the usual volatility of the job without a replay."""
    own = assemble(load_job(small_job.write(tmp_path))).scenario
    made = assembled.scenario
    for part in ("book", "liquidity"):
        a, b = getattr(own, part), getattr(made, part)
        assert str(a) == str(b)
    assert float(made.market.volatility.usual_variance) == 1.0


# --- the command ----------------------------------------------------------------------------------------------------------


def test_a_replay_writes_a_picture_a_table_and_metrics(tmp_path: Path) -> None:
    bars = tmp_path / "crash.csv"
    table().assign(symbol="ETH").to_csv(bars, index=False)
    job, folder = small_job.write(tmp_path), tmp_path / "out"
    window = ("--market", f"replay:{bars}:ETH", "--from", "2020-03-12", "--to", "2020-03-13")
    code, out, err = call("simulate", job, *window, "--json", "-o", folder)
    assert code == 0, err
    result = json.loads(out)
    assert (result["horizon_days"], result["paths"], result["folder"]) == (1, 4096, str(folder))
    assert result["history"]["bars"] == 4
    assert result["metrics"]["liquidated"]["value"] > 0
    files = ("course.csv", "course.parquet", "metrics.json", "replay.html", "replay.png", "replay.svg", "run.toml")
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    made = pd.read_csv(folder / "course.csv")
    assert (len(made), made["time"].iloc[-1]) == (STEPS, "2020-03-13T00:00:00Z")
    svg = (folder / "replay.svg").read_text()
    for said in ("Price", "Margin, % of notional", "Liquidated, % of OI", "bad debt", "crash.csv ETH"):
        assert said in svg
    # The file's ends, where none are given; an unfinished or second folder is never left behind.
    code, _, err = call("simulate", job, "--market", f"replay:{bars}:ETH", "-o", folder)
    assert (code, "exists already" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crash.csv", "out", "small.toml"]


WRONG = {
    "no replay": (["--market", "eth-usd"], "--market: found 'eth-usd'; expected replay:FILE"),
    "no file": (["--market", "replay:nowhere.csv"], "nowhere.csv: cannot read the file"),
    "a window of nothing": (["--from", "2020-03-12"], "--from: chooses a window of a replay; add --market"),
    "a folder of nothing": (["-o", "out"], "--output: only a replay writes a folder"),
    "no dates": (
        ["--market", "replay:x.csv", "--from", "soon", "--to", "later"],
        "--from: found 'soon'; expected a date or time such as 2020-03-12 or 2020-03-12T06:00, in UTC\nerror: --to: found 'later'",
    ),
    "backwards": (["--market", "replay:x.csv", "--from", "2020-03-13", "--to", "2020-03-12"], "expected an end after"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_command_cannot_replay_is_told(tmp_path: Path, name: str) -> None:
    arguments, said = WRONG[name]
    code, out, err = call("simulate", small_job.write(tmp_path), *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_replay_without_ends_is_the_whole_file(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "bars.csv", index=False)
    loaded = load_job(small_job.write(tmp_path), replay_overrides(f"replay:{tmp_path / 'bars.csv'}", None, None))
    assert (loaded.job.simulation.horizon_days, history_of(loaded).window.bars) == (3.0, 12)


# --- real crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "symbol", "day", "lowest"),
    [
        ("2020-03_covid", "ETHUSDT,venue=binance_spot", "2020-03-13", 86.0),
        ("2021-05_crash", "ETHUSDT,venue=binance_spot", "2021-05-19", 1888.0),
        ("2022-05_luna", "LUNAUSDT,venue=binance_spot", "2022-05-11", None),
        ("2022-11_ftx", "ETHUSDT,venue=binance_spot", "2022-11-09", None),
    ],
)
def test_crashes_can_be_read(market_data: Path, file: str, symbol: str, day: str, lowest: float | None) -> None:
    candles = read_market(market_data / "crashes" / f"{file}.csv.gz", symbol)
    first = pd.Timestamp(day).value // 10**6
    of_day = candles.low[(candles.ts >= first) & (candles.ts < first + 86_400_000)]
    assert len(of_day) * candles.interval_s == 86_400
    if lowest is not None:
        assert of_day.min() == lowest
