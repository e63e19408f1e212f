"""The commands that fit the world, from the outside: what they print, what they write, and what they say of bad input."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import Answer, call
from made_world import made_book, made_log, made_quotes

from calibrate.fits.feed import Feed

COMMANDS = ("fit-oracle", "fit-depth", "fit-book")
SECTION = {"fit-oracle": "oracle", "fit-depth": "liquidity", "fit-book": "book"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small made file for each command."""
    folder = tmp_path_factory.mktemp("inputs")
    feed = Feed(deviation=0.005, heartbeat_s=3600.0, restarts=False, block_s=12.0, look_s=60.0)
    rounds, _ = made_log(feed, days=40, seed=1, delay_s=30.0)
    quotes = made_quotes(1, depth=20e6, crossover=0.2, half_spread=3e-4)
    accounts = made_book(1, 300)
    debt = accounts.notional_usd * (1 - accounts.collateral)
    kept = debt > 0
    tables = {
        "fit-oracle": {
            "round_id": np.arange(len(rounds.seconds)), "updated_at": rounds.seconds.astype(int), "price": rounds.answer,
        },
        "fit-depth": {"size_usd": quotes.size_usd, "impact": quotes.impact, "time": 1_700_000_000 + 3600 * quotes.batch},
        "fit-book": {
            "collateral": accounts.notional_usd[kept], "debt": debt[kept], "threshold": 1 - accounts.maintenance[kept],
        },
    }  # fmt: skip
    paths = {command: folder / f"{SECTION[command]}.csv" for command in COMMANDS}
    for command, table in tables.items():
        pd.DataFrame(table).to_csv(paths[command], index=False)
    return paths


@pytest.fixture(scope="module", params=COMMANDS)
def fitted(
    request: pytest.FixtureRequest, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Answer]:
    """Each command once, as a person would give it."""
    output = tmp_path_factory.mktemp("fitted") / "made.toml"
    return request.param, output, call(request.param, inputs[request.param], "-o", output)


def test_a_fit_prints_its_figures_with_errors_on_one_screen(fitted: tuple[str, Path, Answer]) -> None:
    command, output, answer = fitted
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 160
    assert {"deviation_bps", "depth_usd", "long_median_excess_1"} & {line.split()[0] for line in lines if line.split()}
    assert "standard errors: " in answer.out
    assert f"written: {output}" in lines
    assert "fitting" in answer.err or "measuring" in answer.err, "talk goes to stderr"
    assert command.startswith("fit")


def test_a_fit_writes_a_section_its_evidence_and_a_figure(fitted: tuple[str, Path, Answer]) -> None:
    command, output, _ = fitted
    assert sorted(path.name for path in output.parent.iterdir()) == ["made.png", "made.svg", "made.toml"]
    content = tomllib.loads(output.read_text())
    assert list(content) == [SECTION[command], "standard_errors", "fit", "goodness"]
    assert content["fit"]["source"] == f"{SECTION[command]}.csv"
    assert len(content["fit"]["sha256"]) == 64
    assert content["fit"]["command"].startswith(f"calibrate {command} {SECTION[command]}.csv")
    assert all(error > 0 for error in content["standard_errors"].values())
    svg = output.with_suffix(".svg").read_text()
    assert "NaN" not in svg
    for words in {"oracle": ("seconds", "Volatility"), "liquidity": ("USD", "bps"), "book": ("Collateral", "Share")}[
        SECTION[command]
    ]:
        assert words in svg


def test_json_holds_what_the_tables_show(inputs: dict[str, Path]) -> None:
    answer = call("fit-depth", inputs["fit-depth"], "--json")
    content = json.loads(answer.out)
    assert set(content) == {"liquidity", "figures", "goodness", "fit", "written"}
    assert content["written"] == []
    assert content["figures"]["depth_usd"]["standard_error"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fit-oracle", "none.csv"), "error: none.csv: cannot read the file (No such file or directory)"),
        (
            ("fit-oracle", "{fit-oracle}", "--storm", "yesterday"),
            "error: --storm: found 'yesterday'; expected a time such as",
        ),
        (("fit-oracle", "{fit-oracle}", "--storm", "2001-01-01"), "error: --storm: 2001-01-01 00:00 is not in the log"),
        (("fit-oracle", "{fit-book}"), "error: {fit-book}: columns: found collateral, debt, threshold"),
        (("fit-depth", "{fit-depth}", "--largest-impact", "0.001"), "error: quotes of one market run from"),
        (
            ("fit-book", "{fit-book}", "-o", "book.json"),
            "error: book.json: expected the name of a .toml file for --output",
        ),
        (
            ("fit-book", "{fit-book}", "--maintenance-bps", "100"),
            "error: {fit-book}: columns: found collateral, debt, threshold",
        ),
    ],
)
def test_bad_input_is_one_clear_message(
    arguments: tuple[str, ...], expected: str, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def filled(text: str) -> str:
        for command, path in inputs.items():
            text = text.replace(f"{{{command}}}", str(path))
        return text

    answer = call(*map(filled, arguments))
    assert answer.code == 2
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith(filled(expected))
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
