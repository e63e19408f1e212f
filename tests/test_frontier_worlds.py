"""The frontier under every scenario: each as if it were the job's own world, side by side in table, figure and report."""

import json
from pathlib import Path
from typing import Any

import made_up_run
import pandas as pd
import pytest
import small_job
from small_job import problems_of

from calibrate import drawing, wording
from calibrate.errors import UserError
from calibrate.figures import scenarios_chart
from calibrate.frontier_worlds import joined, own_world
from calibrate.job import load_job
from calibrate.job_frontier import OWN
from calibrate.pipeline import Swept, frontier_job
from calibrate.plan import plan
from calibrate.progress import Silent
from calibrate.report import build_report
from calibrate.terminal import scenario_lines

TEXT = (
    small_job.TEXT
    + '\n[[scenarios]]\nname = "thin book"\nliquidity.depth_usd = 2e6\n'
    + '\n[[scenarios]]\nname = "calm"\nmarket.volatility = 0.5\n'
)


# --- the sweep ------------------------------------------------------------------------------------------------------------


def swept(folder: Path, text: str, *overrides: str) -> Swept:
    folder.mkdir()
    plainly = "simulation.sampling=plain"  # fewer programs to compile
    return frontier_job(load_job(small_job.write(folder, text), [*overrides, plainly]), folder / "out", Silent())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Swept:
    return swept(folder / "whole", TEXT, "frontier.scenarios=true")


def test_every_scenario_is_swept_as_if_it_were_the_job_itself(whole: Swept, folder: Path) -> None:
    assert list(dict.fromkeys(whole.table["scenario"])) == [OWN, "thin book", "calm"]
    alone = {
        OWN: swept(folder / "own", TEXT),
        "thin book": swept(folder / "thin", small_job.TEXT, "liquidity.depth_usd=2e6"),
    }
    for name, found in alone.items():
        assert "scenario" not in found.table
        assert "scenarios" not in found.trade_off
        rows = whole.table[whole.table["scenario"] == name].drop(columns="scenario").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, found.table)
    about = {key: alone["thin book"].trade_off[key] for key in ("hypervolume", "standings")}
    assert whole.trade_off["scenarios"]["thin book"] == about
    own = {key: value for key, value in whole.trade_off.items() if key != "scenarios"}
    assert own == alone[OWN].trade_off


def test_the_worlds_differ_as_they_should(whole: Swept) -> None:
    """Incumbent, by far more than the errors: 4,096 paths see differences of 0.02."""
    rows = whole.table[whole.table["label"] == "incumbent"].set_index("scenario")
    chance, error = rows["insolvency_probability"], rows["standard_error"]
    assert chance["thin book"] > chance[OWN] + 5 * error["thin book"]
    assert chance["calm"] < chance[OWN] - 5 * error[OWN]


def test_all_that_is_written_holds_every_world(whole: Swept, folder: Path) -> None:
    out = folder / "whole" / "out"
    names = {path.name for path in out.iterdir()}
    assert {f"frontier_scenarios.{kind}" for kind in ("html", "svg", "png")} < names
    pd.testing.assert_frame_equal(pd.read_parquet(out / "frontier.parquet"), whole.table)
    assert pd.read_csv(out / "frontier.csv")["scenario"].tolist() == whole.table["scenario"].tolist()
    assert json.loads((out / "frontier.json").read_text(encoding="utf-8")) == whole.trade_off
    lines = scenario_lines(whole.trade_off)
    assert [line.split(" against")[0] for line in lines] == ["thin book: incumbent", "calm: incumbent"]
    assert not any(path.name.startswith("frontier_scenarios") for path in (folder / "own" / "out").iterdir())


def test_a_plan_counts_every_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibrate.plan._speed", lambda problem: (1e4, 3.0))
    path = small_job.write(tmp_path, TEXT)
    once, each = plan(load_job(path)), plan(load_job(path, ["frontier.scenarios=true"]))
    assert each["seconds"] > 2 * once["seconds"]
    assert any("4,096 each, in each of 3 worlds" in line for line in each["lines"])
    assert not any("each of" in line for line in once["lines"])


def test_what_cannot_be_swept_is_told(tmp_path: Path) -> None:
    path = small_job.write(tmp_path)
    (found,) = problems_of(path, "frontier.scenarios=true")
    assert found.place == f"{path}: frontier.scenarios"
    assert "add a table [[scenarios]], or remove it" in found.message
    path = small_job.write(tmp_path, TEXT.replace('"calm"', f'"{OWN}"'))
    (found,) = problems_of(path, "frontier.scenarios=true")
    assert found.place == f"{path}: scenarios.1.name"
    assert problems_of(path) == []


# --- the table ------------------------------------------------------------------------------------------------------------


def worlds(*names: str) -> pd.DataFrame:
    """A frontier in several worlds, each less safe than the one before."""
    tables = {}
    for i, name in enumerate(names):
        table = made_up_run.frontier()
        table[["insolvency_probability", "standard_error", "low", "high"]] *= 1.7**i
        tables[name] = table
    return joined(tables)


def test_a_table_of_one_world_is_that_world() -> None:
    table = made_up_run.frontier()
    assert joined({OWN: table}) is table
    assert own_world(table) is table
    pd.testing.assert_frame_equal(own_world(worlds(OWN, "storm")), table.reset_index(drop=True))


# --- the figure -----------------------------------------------------------------------------------------------------------


def panels(specification: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for row in specification["vconcat"] for panel in row["hconcat"]]


@pytest.mark.parametrize(("number", "rows"), [(4, [2, 2]), (5, [3, 2])])
def test_there_is_a_panel_for_every_scenario_and_all_share_their_axes(number: int, rows: list[int]) -> None:
    names = [OWN, *(f"world {i}" for i in range(1, number))]
    chart = scenarios_chart(worlds(*names), "ETH-PERP", 1.0).to_dict()
    assert [len(row["hconcat"]) for row in chart["vconcat"]] == rows
    drawn = panels(chart)
    assert [panel["transform"][0]["filter"] for panel in drawn] == [{"field": "scenario", "equal": n} for n in names]
    for axis, field in (("x", "max_leverage"), ("y", "shown")):
        places = [layer["encoding"].get(axis, {}) for panel in drawn for layer in panel["layer"]]
        scales = [place["scale"] for place in places if place.get("field") == field]
        assert len(scales) > 2 * number
        assert all(scale == scales[0] for scale in scales)
    for panel in drawn:
        uprights = [(e["y"]["field"], e["y2"]["field"]) for e in (x["encoding"] for x in panel["layer"]) if "y2" in e]
        assert uprights == [("bar_low", "bar_high")]
    # Numbers stand at the left, and under the lowest panel of each column.
    left = [panel["layer"][1]["encoding"]["y"]["axis"]["labels"] for panel in drawn]
    assert left == [column == 0 for count in rows for column in range(count)]
    below = [panel["layer"][1]["encoding"]["x"]["axis"]["labels"] for panel in drawn]
    assert below == [i + rows[0] >= number for i in range(number)]


def test_policies_and_names_stand_in_the_drawing() -> None:
    table = worlds(OWN, 'a "b" \\ </script> [c]')
    svg = drawing.svg(scenarios_chart(table, "ETH-PERP", 7.0))
    for text in (
        "the job's own",
        'a "b" \\ &lt;/script&gt; [c]',
        "Incumbent",
        "Recommended",
        "not certified",
        "within 7 days",
    ):
        assert text in svg
    # One symbol a policy and panel; diamonds and squares are drawn in the colours of their roles, and once more in the legend.
    for colour, _ in (drawing.ROLES["incumbent"], drawing.ROLES["recommended"]):
        assert svg.count(f'stroke="{colour}" stroke-width="2"') == 2


def test_a_tolerance_is_drawn_where_it_is_to_be_kept() -> None:
    table = worlds(OWN, "storm")
    without = scenarios_chart(table, "ETH-PERP", 1.0).to_dict()
    assert "Dashed" not in json.dumps(without)
    assert not any("strokeDash" in layer["mark"] for panel in panels(without) for layer in panel["layer"])
    table.loc[table["label"] == "recommended", "tolerance"] = 1e-3
    chart = scenarios_chart(table, "ETH-PERP", 1.0).to_dict()
    assert "Dashed: the tolerance of 0.1 %" in json.dumps(chart)
    assert all(any("strokeDash" in layer["mark"] for layer in panel["layer"]) for panel in panels(chart))


def test_other_axes_are_drawn_too() -> None:
    svg = drawing.svg(scenarios_chart(worlds(OWN, "storm"), "ETH-PERP", 1.0, x="user_cost", y="bad_debt_es"))
    assert "in every scenario" in svg


# --- the report -----------------------------------------------------------------------------------------------------------


def run_folder(folder: Path, **changes: Any) -> Path:
    made_up_run.write_run(folder)
    worlds(OWN, "storm").to_csv(folder / "frontier.csv", index=False)
    whole = made_up_run.trade_off()
    storm = {"hypervolume": whole["hypervolume"], "standings": whole["standings"]}
    content = whole | {"scenarios": {"storm": storm}} | changes
    (folder / "frontier.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_report_shows_every_scenario(tmp_path: Path) -> None:
    page = build_report(run_folder(tmp_path / "run")).read_text(encoding="utf-8")
    assert {"frontier_scenarios.svg", "frontier_scenarios.png"} <= {
        p.name for p in (tmp_path / "run" / "figures").iterdir()
    }
    section = page[page.index('id="scenarios"') :]
    section = section[: section.index("</section>")].replace("&nbsp;", " ")
    assert "storm</text>" in section
    assert "to be kept in every scenario" in section
    table = section[section.index("<table>") :]
    assert table.count("<td>storm</td>") == table.count("<td>the job&#x27;s own</td>") == 2
    # What the incumbent offers and what the line has over it.
    assert f"25.70{wording.TIMES} ± 0.10{wording.TIMES}" in table


def test_a_limit_on_average_is_no_line_in_a_panel(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    content = made_up_run.recommended()
    content["certificate"]["constraints"][0]["by_scenario"] = {OWN: 5e-4, "storm": 3e-4}
    (folder / "recommended.json").write_text(json.dumps(content), encoding="utf-8")
    page = build_report(folder).read_text(encoding="utf-8")
    section = page[page.index('id="scenarios"') :]
    section = section[: section.index("</section>")]
    assert "not in each of them" in section
    assert "Dashed" not in section


def test_a_scenario_of_which_there_is_no_row_is_refused(tmp_path: Path) -> None:
    storm = {key: made_up_run.trade_off()[key] for key in ("hypervolume", "standings")}
    with pytest.raises(UserError, match=r"frontier.json: scenarios: names flood, of which frontier.csv has no row"):
        build_report(run_folder(tmp_path, scenarios={"flood": storm}))
