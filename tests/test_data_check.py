"""`calibrate data check`: what is in a file, what is wrong with it, and repairs that change what they say and nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_candles import HOUR_MS, START_MS, good_table
from test_download import called

from calibrate.data.candles import read_candles
from calibrate.data.check import Checked, check_candles
from calibrate.data.repairs import REPAIRS
from calibrate.errors import UserError
from calibrate.market.files import read_model
from calibrate.market.sample import made_up_candles
from calibrate.shipped import lay_out_shipped, shipped_folder

BARS = 400
NOW_MS = START_MS + 1000 * HOUR_MS
LATE_MS = 1_800_000_000_000


def table() -> pd.DataFrame:
    made = good_table(BARS)
    made["volume"] += 0.5
    return made


def written(folder: Path, frame: pd.DataFrame, name: str = "candles.csv") -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


def checked(folder: Path, frame: pd.DataFrame, **options: Any) -> Checked:
    return check_candles(written(folder, frame), now_ms=NOW_MS, **options)


def kinds(found: Checked) -> dict[str, tuple[str, int]]:
    return {finding.what: (finding.kind, finding.number) for finding in found.findings}


def with_print(frame: pd.DataFrame, row: int, column: str, factor: float) -> pd.DataFrame:
    frame.loc[row, column] *= factor
    return frame


# --- what is found --------------------------------------------------------------------------------------------------------


def test_a_good_file_is_described_and_nothing_is_found(tmp_path: Path) -> None:
    found = checked(tmp_path, table())
    assert found.findings == []
    assert found.usable
    facts = found.facts
    assert (facts["rows"], facts["bars"], facts["interval_s"], facts["times"]) == (BARS, BARS, 3600, ["milliseconds"])
    assert (facts["first"], facts["last"]) == ("2021-01-01T00:00:00Z", "2021-01-17T15:00:00Z")
    assert facts["lowest"] == pytest.approx(table()["low"].min())


@pytest.mark.parametrize(
    ("row", "column", "factor"),
    [(50, "low", 1e-4), (50, "high", 2.5), (0, "low", 0.3), (BARS - 1, "high", 3.0), (200, "low", 0.75)],
)
def test_a_print_of_an_empty_book_is_suspected(tmp_path: Path, row: int, column: str, factor: float) -> None:
    found = checked(tmp_path, with_print(table(), row, column, factor))
    assert kinds(found) == {"outliers": ("suspicion", 1)}
    assert f"row {row + 1} " in found.findings[0].place
    assert found.usable


def test_a_close_that_nobody_else_saw_is_suspected(tmp_path: Path) -> None:
    frame = table()
    frame.loc[70, ["close", "high"]] *= 1.6
    found = checked(tmp_path, frame)
    assert kinds(found) == {"outliers": ("suspicion", 1), "jumps": ("suspicion", 1)}


def test_a_crash_is_no_outlier(tmp_path: Path) -> None:
    """A fall by 45 % in six hours, half of it taken back: large bars one after another, as in May 2021."""
    frame = table()
    factors = np.ones(BARS)
    factors[300:306] = np.exp(-0.1 * np.arange(1, 7))
    factors[306:] = np.exp(-0.3)
    close = frame["close"] * factors
    opened = np.concatenate([[100.0], close[:-1]])
    frame = frame.assign(
        open=opened, close=close, high=np.maximum(opened, close) * 1.03, low=np.minimum(opened, close) * 0.97
    )
    assert checked(tmp_path, frame).findings == []


def test_what_is_far_in_a_calm_market_is_near_in_a_storm(tmp_path: Path) -> None:
    frame = table()
    frame.loc[150, "low"] *= 0.72
    assert kinds(checked(tmp_path, frame)) == {"outliers": ("suspicion", 1)}
    stormy = frame.assign(high=frame["high"] * 1.05, low=frame["low"] * 0.95)
    assert checked(tmp_path, stormy).findings == []


def test_another_token_under_the_same_name_is_suspected(tmp_path: Path) -> None:
    frame = table()
    frame.loc[100:, ["open", "high", "low", "close"]] *= 40
    assert kinds(checked(tmp_path, frame)) == {"jumps": ("suspicion", 1)}
    over_a_gap = kinds(checked(tmp_path, frame.drop(index=range(95, 100))))
    assert over_a_gap == {"gaps": ("error", 1), "jumps": ("suspicion", 1)}


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_last_bar_that_is_open_is_suspected(tmp_path: Path, newest_first: bool) -> None:
    frame = table()
    now_ms = START_MS + (BARS - 0.5) * HOUR_MS
    order = slice(None, None, -1 if newest_first else 1)
    found = check_candles(written(tmp_path, frame.iloc[order]), now_ms=now_ms)
    assert kinds(found)["last bar open"] == ("suspicion", 1)
    assert "2021-01-17T16:00:00Z, which is still to come" in found.findings[0].found
    frame.loc[BARS - 1, "volume"] = 0.01
    assert "where 95 % of the 100 bars before have" in checked(tmp_path, frame.iloc[order]).findings[0].found


def test_bars_that_are_still_to_come_are_suspected_of_a_local_clock(tmp_path: Path) -> None:
    found = check_candles(written(tmp_path, table()), now_ms=START_MS + (BARS - 7.5) * HOUR_MS)
    assert kinds(found)["in the future"] == ("suspicion", 8)
    assert "last bar open" not in kinds(found)
    assert f"row {BARS - 7} " in found.findings[0].place


def test_rows_that_repeat_and_rows_that_contradict_are_told_apart(tmp_path: Path) -> None:
    frame = table()
    other = frame.iloc[30:32].assign(close=frame["low"].iloc[30:32], volume=0.25)
    found = checked(tmp_path, pd.concat([frame.iloc[:42], frame.iloc[40:42], frame.iloc[42:], other]))
    numbers = {"not in order": ("error", 2), "twice": ("error", 2), "contradicted": ("error", 2)}
    assert kinds(found) == numbers
    assert not found.usable


def test_several_markets_are_told_with_the_column_to_choose_by(tmp_path: Path) -> None:
    frame = pd.concat([table().assign(venue="a", market=name) for name in ("ETHUSDT", "BTCUSDT", "XRPUSDT")])
    frame["close"] = frame["low"] + np.linspace(0, 1, len(frame)) * (frame["high"] - frame["low"])
    found = checked(tmp_path, frame)
    first = found.findings[0]
    assert (first.what, first.found) == ("several markets", "market: BTCUSDT, ETHUSDT, XRPUSDT (3)")
    assert first.todo == "choose one with --where market=BTCUSDT and the like"
    assert not any(finding.repair for finding in found.findings)
    chosen = check_candles(tmp_path / "candles.csv", where={"market": "ETHUSDT"}, now_ms=NOW_MS)
    assert chosen.findings == []


def test_notes_say_what_was_assumed(tmp_path: Path) -> None:
    frame = table()
    frame["ts"] = pd.to_datetime(frame["ts"] + 20 * 60_000, unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S")
    frame.loc[5:9, "volume"] = 0.0
    found = checked(tmp_path, frame.iloc[::-1])
    notes = {
        "no zone": ("note", BARS),
        "idle": ("note", 5),
        "off midnight": ("note", BARS),
        "newest first": ("note", BARS),
    }
    assert kinds(found) == notes
    assert found.usable
    assert "20 min after the round time" in " ".join(finding.found for finding in found.findings)


def local_year() -> tuple[pd.DataFrame, np.ndarray]:
    """Hourly bars of 2021 with the dates of a clock in Berlin, and their true times."""
    frame = good_table(8760)
    dates = pd.to_datetime(frame["ts"], unit="ms", utc=True).dt.tz_convert("Europe/Berlin")
    return frame.assign(ts=dates.dt.strftime("%Y-%m-%d %H:%M:%S")), frame["ts"].to_numpy()


@pytest.mark.parametrize("newest_first", [False, True])
def test_dates_of_a_local_clock_are_suspected_and_put_right_when_its_zone_is_given(
    tmp_path: Path, newest_first: bool
) -> None:
    frame, true_ts = local_year()
    path = written(tmp_path, frame.iloc[:: -1 if newest_first else 1])
    found = kinds(check_candles(path, now_ms=LATE_MS))
    assert found["gaps"] == ("error", 1)
    assert found["contradicted"] == ("error", 1)
    assert found["local time"] == ("suspicion", 1)
    put_right = check_candles(path, zone="Europe/Berlin", output=tmp_path / "utc.csv", now_ms=LATE_MS)
    assert [finding.kind for finding in put_right.findings] == ["note"] * len(put_right.findings)
    assert put_right.left == []
    np.testing.assert_array_equal(read_candles(tmp_path / "utc.csv").ts, true_ts)


def test_a_zone_is_refused_where_times_have_one_or_it_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, table())
    with pytest.raises(UserError, match="holds milliseconds; expected dates without a zone"):
        check_candles(path, zone="Europe/Berlin")
    with pytest.raises(UserError, match="found 'Mars/Olympus'"):
        check_candles(path, zone="Mars/Olympus")


# --- repairs --------------------------------------------------------------------------------------------------------------


def spoiled() -> pd.DataFrame:
    """Every fault that can be repaired, once; the good rows that remain are all but 3, 200 and the last."""
    frame = with_print(table(), 200, "low", 1e-3)
    frame = frame.astype({"close": object})
    frame.loc[3, "close"] = "?"
    frame.loc[BARS - 1, "volume"] = 0.001
    thin = frame.iloc[[30]].assign(volume=0.2)
    order = [*range(20), 21, 20, *range(22, BARS)]
    return pd.concat([thin, frame.iloc[order], frame.iloc[[40]]])


def test_repairs_remove_the_faults_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "mended.parquet"
    found = checked(tmp_path, spoiled(), repairs=list(REPAIRS), output=target)
    assert [done.rows for done in found.repairs] == [1, 3, 1, 1, 1, 1]
    expected = table().drop(index=[3, 200, BARS - 1])
    pd.testing.assert_frame_equal(
        pd.read_parquet(target), expected.reset_index(drop=True), check_exact=False, rtol=1e-12
    )
    assert [(finding.what, finding.number) for finding in found.left] == [("gaps", 2)]
    said = {done.name: done.said for done in found.repairs}
    assert "2021-01-01T03:00:00Z" in said["drop-invalid"]
    assert "2021-01-09T08:00:00Z" in said["drop-outliers"]


@pytest.mark.parametrize("name", REPAIRS)
def test_a_good_file_is_not_changed_by_any_repair(tmp_path: Path, name: str) -> None:
    target = tmp_path / "mended.csv"
    found = checked(tmp_path, table(), repairs=[name], output=target)
    assert [(done.rows, done.said) for done in found.repairs] == [(0, "nothing to change")]
    np.testing.assert_array_equal(pd.read_csv(target), table())


@pytest.mark.parametrize("name", [name for name in REPAIRS if name != "drop-invalid"])
def test_each_repair_does_only_its_own_work(tmp_path: Path, name: str) -> None:
    found = checked(tmp_path, spoiled().drop(index=3), repairs=[name], output=tmp_path / "mended.csv")
    what = {
        "sort": "not in order",
        "drop-duplicates": "twice",
        "keep-fullest": "contradicted",
        "drop-partial": "last bar open",
        "drop-outliers": "outliers",
    }
    before = {finding.what for finding in found.findings if finding.kind != "note"}
    after = {finding.what for finding in found.left}
    assert before - after == {what[name]} if name != "keep-fullest" else {what[name]} <= before - after
    assert (tmp_path / "mended.csv").exists()


def test_of_contradicting_rows_the_one_that_traded_more_is_kept(tmp_path: Path) -> None:
    frame = table()
    early = frame.iloc[[50]].assign(close=frame["low"][50], volume=0.1)
    for place in (50, 51):
        both = pd.concat([frame.iloc[:place], early, frame.iloc[place:]])
        target = tmp_path / f"{place}.csv"
        checked(tmp_path, both, repairs=["keep-fullest"], output=target)
        np.testing.assert_array_equal(pd.read_csv(target), frame)


def test_gaps_are_told_and_never_filled(tmp_path: Path) -> None:
    frame = table().drop(index=[100, 101])
    found = checked(tmp_path, frame, repairs=list(REPAIRS), output=tmp_path / "mended.csv")
    assert kinds(found) == {"gaps": ("error", 1)}
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "mended.csv"), frame)


def test_rows_that_cannot_be_written_are_not_written_silently(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="1 rows with values that cannot be read; they cannot be written; add --fix drop-invalid"
    ):
        checked(tmp_path, spoiled(), repairs=["sort"], output=tmp_path / "mended.csv")
    assert not (tmp_path / "mended.csv").exists()


def test_dropping_is_no_advice_where_a_column_is_not_what_it_seems(tmp_path: Path) -> None:
    frame = table()
    frame["ts"] = pd.to_datetime(frame["ts"], unit="ms").dt.strftime("%d.%m.%Y %H:%M")
    found = checked(tmp_path, frame)
    assert [(finding.what, finding.number, finding.repair) for finding in found.findings] == [("no time", BARS, None)]
    with pytest.raises(UserError, match="no candle would be left; nothing was written"):
        checked(tmp_path, frame, repairs=["drop-invalid"], output=tmp_path / "mended.csv")
    assert not (tmp_path / "mended.csv").exists()


def test_wishes_that_cannot_be_met_are_told_all_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, table())
    with pytest.raises(UserError) as caught:
        check_candles(path, repairs=["drop-everything"], zone="x", output=path)
    assert [problem.place for problem in caught.value.problems] == ["--fix", str(path), "--timezone"]
    with pytest.raises(UserError, match="needs --output"):
        check_candles(path, repairs=["sort"])


# --- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, spoiled().drop(index=3))
    assert called("check", path) == 1
    shown = capsys.readouterr().out
    assert "candles.csv: CSV, comma-separated" in shown
    for what in ("not in order", "twice", "contradicted", "outliers", "last bar open", "gaps"):
        assert what in shown
    advice = next(line for line in shown.splitlines() if line.startswith("to mend"))
    named = {part.split()[0] for part in advice.split("--fix ")[1:]}
    assert named == {"sort", "drop-duplicates", "keep-fullest", "drop-outliers", "drop-partial"}
    wish = advice.partition("data ")[2].replace("NEW.parquet", str(tmp_path / "new.parquet")).split()
    assert called(*wish) == 1  # the gaps are left
    assert "written: " in capsys.readouterr().out
    assert read_candles(tmp_path / "new.parquet", allow_gaps=True).bars == BARS - 3


def test_the_command_answers_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, table())
    assert called("check", path, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["usable"], content["bars"], content["findings"], content["written"]) == (True, BARS, [], None)
    assert called("check", path, "--json", "--output", tmp_path / "same.csv") == 0
    assert json.loads(capsys.readouterr().out)["written"] == str(tmp_path / "same.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "none.csv"], "error: none.csv: cannot read the file (No such file or directory)"),
        (["check", "none.csv", "--where", "ETH"], "error: --where: found 'ETH'; expected COLUMN=VALUE"),
        (["sample", "--model", "none", "-o", "a.csv"], "error: none: cannot"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(said)
    assert len(shown.err.splitlines()) == 1


# --- made-up candles ------------------------------------------------------------------------------------------------------


def test_the_shipped_sample_is_what_its_command_makes_and_says_that_it_is_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = shipped_folder("data") / "made-up-candles.csv"
    lines = shipped.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# made up: no market ever traded at these prices"
    command = next(line for line in lines if line.startswith("# command: calibrate data ")).partition("data ")[2]
    assert called(*command.split(), "-o", tmp_path / "again.csv") == 0
    again, there = read_candles(tmp_path / "again.csv"), read_candles(shipped)
    np.testing.assert_array_equal(again.ts, there.ts)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(getattr(again, name), getattr(there, name), rtol=2e-5)
    assert called("check", shipped) == 0
    assert "nothing is wrong with it" in capsys.readouterr().out
    laid_out = lay_out_shipped(tmp_path / "new")
    assert tmp_path / "new" / "data" / "made-up-candles.csv" in laid_out


def test_made_up_candles_have_the_volatility_of_their_model() -> None:
    """Constant volatility: the variance of 20,000 returns has a standard error of 1 %; an error of 5 % in volatility is seen,
    and correct code fails once in two million seeds."""
    parameters = {"volatility": 0.8, "drift": 0.0}
    made = made_up_candles(parameters, bars=20_000, minutes_per_bar=10, seed=3)
    returns = np.diff(np.log(made["close"]))
    ratio = returns.var() / (0.8**2 * 600 / (365 * 86_400))
    assert abs(ratio - 1) < 5 * np.sqrt(2 / len(returns))
    assert (made["high"] >= np.maximum(made["open"], made["close"])).all()
    assert (made["low"] <= np.minimum(made["open"], made["close"])).all()
    np.testing.assert_array_equal(made["open"][1:], made["close"][:-1])


def test_the_sample_is_drawn_from_the_model_it_names() -> None:
    model = read_model(shipped_folder("models") / "eth-usd.toml")
    one, other = (made_up_candles(model.parameters, bars=50, minutes_per_bar=60, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one["close"], other["close"])
    assert one["open"][0] == 2000


# --- real files -----------------------------------------------------------------------------------------------------------


def test_real_files_show_the_faults_that_they_are_known_for(market_data: Path) -> None:
    """Counted by hand in the files: the prints of an empty book of March 2020, Binance's maintenance, and no crash."""
    hourly = market_data / "candles_1h"
    found = {coin: kinds(check_candles(hourly / f"{coin}USDT_1h.parquet")) for coin in ("BTC", "ETH", "SOL", "LINK")}
    assert {coin: what.get("gaps") for coin, what in found.items()} == {
        "BTC": ("error", 26),
        "ETH": ("error", 26),
        "SOL": ("error", 9),
        "LINK": ("error", 19),
    }
    outliers = {coin: what["outliers"][1] for coin, what in found.items() if "outliers" in what}
    assert outliers == {"LINK": 2}  # 2020-03-12 at 0.0001, and a flash crash by 27 % on 2020-12-23
    covid = market_data / "crashes" / "2020-03_covid.csv.gz"
    for coin, high in (("ETHUSDT", "high 323"), ("ATOMUSDT", "high 4.417")):
        one = check_candles(covid, where={"venue": "binance_perp", "market": coin})
        (outlier,) = [finding for finding in one.findings if finding.what == "outliers"]
        assert (outlier.number, outlier.found.startswith(high)) == (1, True)
