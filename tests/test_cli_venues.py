"""`calibrate venues` and `calibrate export`, from the outside."""

import json
from pathlib import Path

import pytest
from command_line import call
from test_proposal import AAVE, TOO_STRICT, run_folder


def test_venues_are_listed_and_shown() -> None:
    listed = call("venues")
    assert listed.code == 0
    assert "hyperliquid:{BTC, ETH" in listed.out
    rows = json.loads(call("venues", "--json").out)["venues"]
    assert {"preset", "venue", "as_of", "source"} == set(rows[0])
    shown = call("venues", "show", "maker:ETH-A")
    assert shown.code == 0
    assert "auction price after 15 minutes, feed 100: 99.482" in shown.out
    assert "backstop: auto_deleveraging true, deleveraging_order" in call("venues", "show", "hyperliquid:ETH").out
    assert "may free base_margin_bps, initial_ratio, penalty_bps\n" in call("venues", "show", "aave-v3:emode-eth").out
    content = json.loads(call("venues", "show", "dydx-v4:small-cap", "--json").out)
    assert content["policy"]["base_margin_bps"] == 500


def test_a_venue_that_is_not_known_ends_with_the_nearest_names() -> None:
    answer = call("venues", "show", "hyperlikuid:ETH")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: no preset 'hyperlikuid:ETH'; the nearest names are hyperliquid:ETH")


def test_an_export_prints_what_changes_and_where_it_is(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, base_margin_bps=5_000 / 16)
    answer = call("export", run, "--venue", "hyperliquid:ETH", "--inputs", tmp_path)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        "hyperliquid:ETH:",
        "  tiers.0.max_leverage: 25 -> 16",
        f"certified; memo: {run / 'export-hyperliquid-ETH' / 'memo.md'}",
    ]
    again = call("export", run, "--inputs", tmp_path)
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize(("limit", "code"), [("0.1", 1), ("0.5", 0)])
def test_an_export_ends_with_1_unless_every_step_is_certified(limit: str, code: int, tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, *AAVE, f"constraints.insolvency_probability={limit}", base_margin_bps=300.0)
    answer = call("export", run, "--inputs", tmp_path, "-o", tmp_path / "out", "--json")
    assert answer.code == code
    content = json.loads(answer.out)
    assert content["folder"] == str(tmp_path / "out")
    assert (content["status"] == "certified") == (code == 0)


def test_an_export_that_is_refused_says_why_and_writes_nothing(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, *TOO_STRICT, base_margin_bps=5_000 / 16)
    answer = call("export", run, "--inputs", tmp_path)
    assert answer.code == 1
    assert "not certified as rounded: insolvency_probability has an upper limit of" in answer.out
    assert "nothing was written" in answer.out
    assert sorted(path.name for path in run.iterdir()) == ["metrics.json", "recommended.json", "run.toml"]
