"""Every figure renders everywhere, shows its errors, and needs no network."""

import json
import math
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import made_up_run
import pandas as pd
import pytest

from calibrate import drawing, frontier_figure, placement
from calibrate.figures import frontier_chart, metrics_chart, save, sensitivity_chart
from calibrate.frontier_axes import HORIZONTAL, VERTICAL
from calibrate.frontier_figure import prepare
from calibrate.job import FrontierSection

MEASURED = {"incumbent": made_up_run.metrics(0), "recommended": made_up_run.metrics(1)}
CHARTS = {
    "frontier": lambda: frontier_chart(made_up_run.frontier(), "ETH-PERP", 1.0),
    "metrics": lambda: metrics_chart(MEASURED, "ETH-PERP"),
    "sensitivities": lambda: sensitivity_chart(made_up_run.recommended()["sensitivities"], "ETH-PERP"),
}


def nodes(specification: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a chart's specification."""
    if isinstance(specification, dict):
        yield specification
        for value in specification.values():
            yield from nodes(value)
    elif isinstance(specification, list):
        for value in specification:
            yield from nodes(value)


@pytest.fixture(scope="module")
def frontier_specification() -> dict[str, Any]:
    return CHARTS["frontier"]().to_dict()


def marks(specification: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    layers = [node for node in nodes(specification) if isinstance(node.get("mark"), dict)]
    return [layer for layer in layers if layer["mark"]["type"] == kind]


def drawn_points(frontier: pd.DataFrame) -> pd.DataFrame:
    """The rows that the frontier chart draws, with what was prepared for them."""
    return prepare(frontier).points


@pytest.mark.parametrize("name", CHARTS)
def test_a_figure_is_written_in_every_format(name: str, tmp_path: Path) -> None:
    page, svg, png = save(CHARTS[name](), tmp_path / "figures" / name)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert "vegaEmbed(" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"{name}.html",
        f"{name}.png",
        f"{name}.svg",
    ]


def test_a_page_loads_nothing() -> None:
    page = drawing.page(CHARTS["metrics"](), "metrics")
    assert not re.search(r'(src|href)\s*=\s*"(https?:)?//', page)
    assert "<link" not in page
    assert "default-src 'none'" in page


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not as gif"):
        save(CHARTS["metrics"](), tmp_path / "metrics", ("gif",))
    assert list(tmp_path.iterdir()) == []


def test_probability_is_on_a_logarithmic_axis_with_error_bars(frontier_specification: dict[str, Any]) -> None:
    top = frontier_specification["vconcat"][0]
    scales = [layer["encoding"]["y"]["scale"] for layer in marks(top, "point")]
    assert {scale["type"] for scale in scales} == {"log"}
    bars = [bar["encoding"] for bar in marks(top, "rule") if "y2" in bar["encoding"]]
    assert [(bar["y"]["field"], bar["y2"]["field"]) for bar in bars] == [("bar_low", "bar_high")]


def test_every_free_parameter_has_a_panel_with_its_unit(frontier_specification: dict[str, Any]) -> None:
    panels = frontier_specification["vconcat"]
    titles = [panel["title"]["text"] for panel in panels[1:]]
    assert titles == ["Base margin (bps)", "Volatility multiplier", "Liquidation penalty (bps)"]
    domains = [
        node["scale"]["domain"] for node in nodes(panels) if node.get("field") == "max_leverage" and "scale" in node
    ]
    assert all(domain == domains[0] for domain in domains)


def test_the_caller_may_choose_the_panels() -> None:
    chart = frontier_chart(made_up_run.frontier(), "ETH-PERP", 1.0, free=["initial_ratio", "not_there"])
    assert [panel["title"]["text"] for panel in chart.to_dict()["vconcat"][1:]] == ["Initial / maintenance margin"]


def test_tooltips_tell_everything_about_a_point(frontier_specification: dict[str, Any]) -> None:
    told = {
        tip["title"] for layer in marks(frontier_specification, "point") for tip in layer["encoding"].get("tooltip", [])
    }
    assert {"Insolvency probability", "95 % interval", "Initial margin", "Simulated paths"} <= told
    assert {"Base margin (bps)", "Volatility multiplier", "Initial / maintenance margin"} <= told


def test_a_point_without_events_stands_at_its_upper_limit() -> None:
    points = drawn_points(made_up_run.frontier())
    unseen = points[points["insolvency_probability"] == 0]
    assert len(unseen) == 1
    assert (unseen["shown"] == unseen["high"]).all()
    assert list(unseen["shape"]) == ["triangle-down"]
    assert list(unseen["inside"]) == ["white"]
    assert (points["bar_low"] > 0).all()
    assert (points["shown"] > 0).all()


def test_refused_points_are_hollow_and_points_without_a_tolerance_are_not() -> None:
    frontier = made_up_run.frontier()
    points = drawn_points(frontier)
    refused = points[(points["label"] == "frontier") & (points["kind"] == "not certified")]
    assert list(refused["tolerance"]) == [1e-3]
    assert set(refused["inside"]) == {"white"}
    named = points[points["label"] != "frontier"].set_index("label")
    assert "white" not in set(named["inside"])
    assert named.loc["incumbent", "colour"] != named.loc["recommended", "colour"]
    assert named.loc["incumbent", "shape"] != named.loc["recommended", "shape"]


def with_company() -> pd.DataFrame:
    """Two points of the sweep that others beat, one of them refused, and alternatives with names of all kinds."""
    row = made_up_run.frontier_row
    rows = [
        row("frontier", 2e-3, 6e-3, 22.5, dominated=True),
        row("frontier", 5e-5, 4e-4, 14.0, certified=False, dominated=True),
        row("wider margin", math.nan, 1.5e-3, 17.0, certified=False, dominated=True),
        row("Plan B of the DAO", math.nan, 2.2e-4, 19.5, certified=False),
        row("never fails", math.nan, 0.0, 11.0, certified=False),
    ]
    return pd.concat([made_up_run.frontier(), pd.DataFrame(rows)], ignore_index=True)


def test_beaten_points_are_grey_and_off_the_line() -> None:
    points = drawn_points(with_company())
    beaten = points[(points["label"] == "frontier") & points["dominated"]]
    assert len(beaten) == 2
    assert set(beaten["kind"]) == {"beaten by another point"}
    assert set(beaten["colour"]) == set(beaten["inside"]) == {drawing.AXIS}
    rest = points[(points["label"] == "frontier") & ~points["dominated"]]
    assert set(rest["colour"]) == {drawing.BLUE}
    specification = frontier_chart(with_company(), "ETH-PERP", 1.0).to_dict()
    lines = [
        step["filter"]
        for layer in marks(specification, "line")
        for step in layer["transform"]
        if "label === 'frontier'" in step["filter"]
    ]
    assert len(lines) == len(specification["vconcat"])
    assert all("=== 'certified'" in line or "!== 'beaten by another point'" in line for line in lines)
    assert "beaten by another point" in legend(specification)


def legend(specification: dict[str, Any]) -> set[str]:
    """The kinds of points that the legend explains."""
    return {kind for node in nodes(specification) if node.get("field") == "kind" for kind in node["scale"]["domain"]}


def test_a_sweep_of_which_nothing_is_beaten_has_no_such_legend(frontier_specification: dict[str, Any]) -> None:
    assert legend(frontier_specification) == {"certified", "not certified", "no insolvency seen: upper limit"}


def test_alternatives_carry_their_names_as_given_and_are_told_apart() -> None:
    points = drawn_points(with_company()).set_index("label")
    names = ["wider margin", "Plan B of the DAO", "never fails"]
    looks = {(points.loc[name, "colour"], points.loc[name, "shape"]) for name in [*names, "incumbent", "recommended"]}
    assert len(looks) == 5
    assert points.loc["wider margin", "colour"] not in (drawing.AXIS, drawing.BLUE), "a name is never grey"
    svg = drawing.svg(frontier_chart(with_company(), "ETH-PERP", 1.0))
    for name in [*names, "Incumbent", "Recommended"]:
        assert f">{name}<" in svg


def test_no_label_covers_another_or_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    placers: list[placement.Placer] = []

    class Kept(placement.Placer):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            placers.append(self)

    monkeypatch.setattr(frontier_figure, "Placer", Kept)
    for x, y in AXES:
        frontier_chart(with_company(), "ETH-PERP", 1.0, x=x, y=y)
    assert len(placers) == len(AXES)
    for placer in placers:
        assert sum(a.overlap(b) for a, b in combinations(placer.boxes, 2)) == 0
        assert not any(box.contains(point) for box in placer.boxes for point in placer.drawn)


# --- other axes -----------------------------------------------------------------------------------------------------------

AXES = [(x, y) for x in HORIZONTAL for y in VERTICAL]


def test_a_job_may_choose_the_axes_that_there_are() -> None:
    fields = FrontierSection.model_fields
    assert get_args(fields["x"].annotation) == tuple(HORIZONTAL)
    assert get_args(fields["y"].annotation) == tuple(VERTICAL)
    assert (fields["x"].default, fields["y"].default) == AXES[0]


@pytest.mark.parametrize(("x", "y"), AXES)
def test_every_pair_of_axes_shows_its_own_values_with_their_errors(x: str, y: str) -> None:
    frontier = with_company()
    points = prepare(frontier, x, y).points
    column = {"insolvency_probability": "insolvency_probability", "bad_debt_es": "bad_debt_es_99"}[y]
    low, high = {"insolvency_probability": ("low", "high")}.get(y, (f"{column}_low", f"{column}_high"))
    seen = points[points[column] > 0]
    assert (seen["shown"] == seen[column]).all()
    assert (seen["bar_high"] == seen[high]).all()
    assert ((seen["bar_low"] == seen[low]) | (seen[low] < seen["bar_low"])).all()
    assert (points["bar_low"] > 0).all()
    panel = frontier_chart(frontier, "ETH-PERP", 1.0, x=x, y=y).to_dict()["vconcat"][0]
    (drawn,) = {layer["encoding"]["x"]["field"] for layer in marks(panel, "point")}
    assert drawn == x
    sideways = [bar["encoding"] for bar in marks(panel, "rule") if "x2" in bar["encoding"]]
    assert [(bar["x"]["field"], bar["x2"]["field"]) for bar in sideways] == (
        [("bar_left", "bar_right")] if x == "user_cost" else []
    )
    if x == "user_cost":
        wide = points["bar_right"] - points["bar_left"]
        assert wide.to_numpy() == pytest.approx(2 * 1.96 * points["user_cost_standard_error"].to_numpy())


def test_titles_say_what_is_shown_and_on_which_side_it_is_better() -> None:
    usual, other = (
        json.dumps(frontier_chart(made_up_run.frontier(), "ETH-PERP", 7.0, x=x, y=y).to_dict(), ensure_ascii=False)
        for x, y in (AXES[0], ("user_cost", "bad_debt_es"))
    )
    assert "ETH-PERP: insolvency against leverage" in usual
    assert "further right is better" in usual
    assert "from another side" not in usual
    assert "ETH-PERP: worst losses against cost to users" in other
    assert "further left is better" in other
    assert "from another side" in other
    assert "Bad debt, mean of the worst 1 %, within 7 days" in other
    assert "Paid by liquidated users within 7 days" in other


def test_a_tolerance_of_insolvency_is_no_line_among_losses() -> None:
    frontier = made_up_run.frontier()
    frontier.loc[frontier["label"] == "recommended", "tolerance"] = 1e-3
    assert prepare(frontier).tolerance == 1e-3
    assert prepare(frontier, y="bad_debt_es").tolerance is None


def test_points_without_a_loss_stand_at_the_foot_of_the_axis() -> None:
    prepared = prepare(with_company(), y="bad_debt_es")
    points = prepared.points.set_index("label")
    assert points.loc["never fails", "shown"] == prepared.upright[0]
    assert points.loc["never fails", "kind"] == "no loss seen"
    assert points.loc["incumbent", "shown"] > prepared.upright[0]


@pytest.mark.parametrize("certified", ["True", "true", True, 1])
def test_certified_may_be_spelt_in_several_ways(certified: object) -> None:
    frontier = made_up_run.frontier().astype({"certified": object})
    frontier["certified"] = [certified] * len(frontier)
    assert "not certified" not in set(drawn_points(frontier)["kind"])


def everything_unseen() -> pd.DataFrame:
    frontier = made_up_run.frontier()
    frontier[["insolvency_probability", "low"]] = 0.0
    frontier["high"] = 9.2e-6
    return frontier


def nothing_certified() -> pd.DataFrame:
    frontier = made_up_run.frontier()
    frontier["certified"] = False
    frontier[["insolvency_probability", "low", "high", "standard_error"]] *= 1e-4
    return frontier


def one_point() -> pd.DataFrame:
    return made_up_run.frontier().iloc[[3, 8]]


@pytest.mark.parametrize(
    "frontier", [made_up_run.frontier(infeasible=True), everything_unseen(), nothing_certified(), one_point()]
)
def test_odd_frontiers_are_drawn_all_the_same(frontier: pd.DataFrame) -> None:
    svg = drawing.svg(frontier_chart(frontier, "ETH-PERP", 7.0))
    assert "within 7 days" in svg
    assert "Incumbent" in svg
    assert "NaN" not in svg


@pytest.mark.parametrize("level", ["99.9", "97.5"])
def test_the_level_of_the_tail_may_be_any(level: str) -> None:
    frontier = made_up_run.frontier().rename(columns=lambda key: key.replace("bad_debt_es_99", f"bad_debt_es_{level}"))
    assert prepare(frontier).parameters == list(made_up_run.PARAMETERS)
    measured = {role: made_up_run.metrics(index) for index, role in enumerate(("incumbent", "recommended"))}
    for part in measured.values():
        part["metrics"] = {key.replace("_99", f"_{level}"): metric for key, metric in part["metrics"].items()}
    assert f"worst {100 - float(level):g} %" in json.dumps(metrics_chart(measured, "ETH-PERP").to_dict())


def test_what_was_never_lost_is_drawn_as_a_limit_or_as_zero() -> None:
    rows = next(iter(metrics_chart(MEASURED, "ETH-PERP").to_dict()["datasets"].values()))
    drawn = {(row["metric"], row["role"]): row["drawn"] for row in rows}
    assert drawn["Deficit still open at the end", "recommended"] == "limit"
    assert drawn["Bad debt, 99 % quantile", "recommended"] == "zero"
    assert drawn["Bad debt, mean", "recommended"] == "value"
    assert all(row["shown"] > 0 and row["bar_low"] > 0 for row in rows)


def test_losses_are_on_a_logarithmic_axis_with_error_bars() -> None:
    specification = metrics_chart(MEASURED, "ETH-PERP").to_dict()
    bars = [bar["encoding"] for bar in marks(specification, "rule")]
    assert [(bar["x"]["field"], bar["x2"]["field"], bar["x"]["scale"]["type"]) for bar in bars] == [
        ("bar_low", "high", "log")
    ]


def test_the_incumbent_alone_has_a_figure_too() -> None:
    assert "incumbent" in drawing.svg(metrics_chart({"incumbent": made_up_run.metrics(0)}, "ETH-PERP"))


def test_sensitivities_are_sorted_and_have_error_bars() -> None:
    entries = made_up_run.recommended()["sensitivities"]
    specification = sensitivity_chart([*entries, entries[0] | {"elasticity": math.nan}], "ETH-PERP").to_dict()
    rows = next(rows for rows in specification["datasets"].values() if "elasticity" in rows[0])
    assert [row["value"] for row in rows] == [7.1, -1.9, -3.8, -2.6, 0.22]  # assumptions first, each kind by size
    assert len(rows) == len(entries)
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert any(bar["encoding"].get("x2", {}).get("field") == "high" for bar in marks(specification, "rule"))


def test_names_cannot_break_out_of_the_page() -> None:
    name = "</script><script>alert(1)</script><b>'\""
    chart = metrics_chart(MEASURED, name)
    page, svg = drawing.page(chart, name), drawing.svg(chart)
    assert "<script>alert" not in page
    assert "<b>" not in page.split("<script>")[0]
    assert "<script" not in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (2e-5, 9e-4, [2e-5, 5e-5, 1e-4, 2e-4, 5e-4]),
        (2e-7, 2e-3, [1e-6, 1e-5, 1e-4, 1e-3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert drawing.log_ticks((low, high)) == expected


def test_an_axis_spans_a_decade_at_least_and_is_not_stretched_by_lower_ends() -> None:
    low, high = drawing.log_domain([1e-4], [1e-12], [1.1e-4])
    assert high / low >= 10
    assert low > 1e-6
    assert drawing.log_domain([0.0], [0.0], [0.0]) == (1e-6, 1e-2)
