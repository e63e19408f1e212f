"""The report says what the run folder says, to anyone, and trusts nothing in it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import made_up_run
import pandas as pd
import pytest

from calibrate import drawing, report
from calibrate.errors import UserError
from calibrate.report import build_report
from calibrate.trade_off_words import standing_at_length

FIGURES = ["frontier.html", "frontier.png", "frontier.svg", "metrics.png", "metrics.svg"]


def words(path: Path) -> str:
    """What a reader sees: the page without scripts, drawings and tags."""
    page = path.read_text(encoding="utf-8").split("<body>")[1]
    page = re.sub(r"<script>.*?</script>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page).replace("&nbsp;", " ").replace("&#x27;", "'"))


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(made_up_run.write_run(tmp_path_factory.mktemp("certified")))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of words: drawings take most of the time and are left blank."""
    monkeypatch.setattr(drawing, "svg", lambda chart: "<svg></svg>")
    monkeypatch.setattr(drawing, "png", lambda chart: b"")
    for chart in ("frontier_chart", "metrics_chart", "sensitivity_chart"):
        monkeypatch.setattr(report, chart, lambda *_, **__: {})


def edited(folder: Path, name: str, **changes: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return folder


def test_page_and_figures_are_written(certified: Path) -> None:
    assert certified.name == "report.html"
    written = sorted(path.name for path in (certified.parent / "figures").iterdir())
    assert written == [*FIGURES, "sensitivities.png", "sensitivities.svg"]


def test_the_page_loads_nothing_and_reads_without_scripts(certified: Path) -> None:
    page = certified.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)\s*=\s*"(https?:)?//', page)
    assert "<link" not in page
    assert "default-src 'none'" in page
    assert page.count("<svg") >= 3
    assert "@media print" in page


def test_drawings_in_one_page_do_not_share_names(certified: Path) -> None:
    page = certified.read_text(encoding="utf-8").split("<script>")[0]
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(names)


def test_the_recommendation_stands_at_the_top_in_plain_words(certified: Path) -> None:
    text = words(certified)
    assert text.index("Certified:") < text.index("What is recommended") < text.index("The evidence")
    assert "Set the base margin to 83.1 bps (today 100), the volatility multiplier to 1.34 (today 0.8) and" in text
    assert "goes from 0.46 % ± 0.03 % (about 1 in 220) to 0.081 % ± 0.004 % (about 1 in 1,200)" in text


def test_every_policy_is_held_against_the_frontier(certified: Path) -> None:
    text = words(certified)
    assert text.index("Insolvency against leverage") < text.index("How far each policy is from the line")
    assert standing_at_length("The policy in force today", made_up_run.trade_off()["standings"][0]) in text
    assert "The recommended policy offers" in text
    assert "its hypervolume: 61.3 ± 1.1." in text
    assert "other axes" not in text


@pytest.mark.usefixtures("undrawn")
def test_an_alternative_is_named_with_what_it_changes(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    wide = made_up_run.frontier_row("wide <b>", math.nan, 1.5e-3, 17.0, certified=False)
    same = {"base_margin_bps": 100.00001, "volatility_multiplier": 0.8, "penalty_bps": 120, "initial_ratio": 2}
    table = pd.concat([made_up_run.frontier(), pd.DataFrame([wide | same])], ignore_index=True)
    table.to_csv(folder / "frontier.csv", index=False)
    content = made_up_run.trade_off()
    content["standings"].append(made_up_run.standing("wide <b>", 17.0, 1.5e-3))
    text = words(build_report(edited(folder, "frontier.json", standings=content["standings"])))
    assert "wide &lt;b&gt; (liquidation penalty 120 bps) offers a leverage of 17.00" in text
    assert text.count("cannot be told: beyond the sweep") == 1


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("status", "called"), [("not certified", "The best found policy offers"), ("infeasible", "")])
def test_only_what_was_certified_is_called_recommended_beside_the_frontier(
    status: str, called: str, tmp_path: Path
) -> None:
    folder = edited(made_up_run.write_run(tmp_path, status), "frontier.json", **made_up_run.trade_off())
    frontier = made_up_run.frontier()
    frontier.to_csv(folder / "frontier.csv", index=False)
    text = words(build_report(folder))
    assert called in text
    assert "recommended policy" not in text
    assert text.count(" at an insolvency probability of ") == (2 if called else 1)


def test_other_axes_are_drawn_and_explained(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    text = words(build_report(edited(folder, "frontier.json", axes={"x": "user_cost", "y": "bad_debt_es"})))
    assert "Worst losses against cost to users" in text
    assert "shows those points on other axes" in text
    assert "worst losses against cost to users" in (folder / "figures" / "frontier.svg").read_text(encoding="utf-8")


def test_every_constraint_is_explained(certified: Path) -> None:
    text = words(certified)
    assert (
        "By 400,000 weighted days, the insurance fund is exhausted within 1 day with a probability of 0.081 %" in text
    )
    assert "With 95 % confidence the probability is below 0.089 %, within the limit of 0.1 %" in text
    assert "Bad debt, mean of the worst 1 %: 0.230 % ± 0.013 %" in text
    assert text.count(" yes ") == 2


def test_metrics_have_errors_in_per_cent_and_dollars(certified: Path) -> None:
    text = words(certified)
    assert "0.0082 % ± 0.0005 % $16,400 ± $900" in text
    assert "none seen, below 0.00075 %" in text
    assert "fewer than 1 % of paths lose anything" in text


def test_assumptions_and_sources_are_named(certified: Path) -> None:
    text = words(certified)
    assert "Of these assumptions the volatility level matters most" in text
    assert "Not covered:" in text
    for source in ("Glasserman", "Kou", "Broadie", "Clopper", "1811.05230", "Salmon"):
        assert source in text


def test_the_record_is_shown_with_the_job(certified: Path) -> None:
    text = words(certified)
    assert "20240611" in text
    assert "inputs_sha256.eth.toml 5b0c1d" in text
    assert "horizon_days = 1.0 # a &amp; b &lt; c" in text


def test_an_infeasible_run_recommends_nothing(tmp_path: Path) -> None:
    text = words(build_report(made_up_run.write_run(tmp_path, "infeasible")))
    assert "Infeasible:" in text
    assert "No set of parameters is proposed" in text
    assert "Set the" not in text
    assert "Change" not in text


def test_what_an_infeasible_search_tried_is_left_out(tmp_path: Path) -> None:
    folder = edited(made_up_run.write_run(tmp_path), "recommended.json", status="infeasible")
    page = build_report(folder)
    assert "No set of parameters is proposed" in words(page)
    assert "Recommended" not in page.read_text(encoding="utf-8")


def test_an_uncertified_set_is_not_called_recommended(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path, "not certified")
    text = words(build_report(folder))
    assert "Do not adopt them" in text
    assert "The search would set the base margin" in text
    assert "NOT within the limit of 0.5 %" in text
    assert "Best found" in text
    drawn = (folder / "figures" / "frontier.svg").read_text(encoding="utf-8")
    assert "Best found" in drawn
    assert "Recommended" not in drawn


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_certificate_and_sensitivities_has_a_report(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path, "infeasible")
    text = words(build_report(edited(folder, "recommended.json", certificate=None, sensitivities=[])))
    assert "there is no certificate" in text
    assert "No sensitivities were computed" in text
    assert sorted(path.name for path in (folder / "figures").iterdir()) == FIGURES


@pytest.mark.usefixtures("undrawn")
def test_weighted_paths_are_not_counted(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    text = words(build_report(folder))
    assert "By 400,000 weighted days" in text
    assert "of them:" not in text
    # A mean of weights may happen to be a whole number of paths; a share that is none is not counted either.
    certificate = made_up_run.older(made_up_run.recommended())["certificate"]
    certificate["constraints"][0]["value"] = 8.1234567e-7
    assert "By 400,000 weighted days" in words(
        build_report(edited(folder, "recommended.json", certificate=certificate))
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("sampling", [None, "plain"])
def test_plain_paths_are_counted_and_older_folders_say_no_more(sampling: str | None, tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    content = made_up_run.older(made_up_run.recommended())
    content["certificate"] |= {"sampling": sampling} if sampling else {}
    (folder / "recommended.json").write_text(json.dumps(content), encoding="utf-8")
    text = words(build_report(folder))
    assert "In 400,000 simulated days the insurance fund was exhausted on 324 of them: 0.081 % ± 0.005 %" in text
    assert ("(plain sampling)" in text) == (sampling == "plain")
    assert "Both columns are measured on the same paths" in text
    for new in (
        "importance sampling",
        "equally heavy",
        "What the limits cost",
        "Tolerating",
        "+10 % forces",
        "hold again",
    ):
        assert new not in text


def test_weighted_evidence_says_what_it_rests_on(certified: Path) -> None:
    text = words(certified)
    assert text.index("After the search") < text.index("(importance sampling)") < text.index("More leverage for users")
    assert "Insolvency probability: the estimate rests on as much as 3,120 equally heavy paths" in text
    assert "Bad debt, mean of the worst 1 %: the estimate rests on as much as 1,840 equally heavy paths" in text
    assert "at least 100 paths, none of which makes up more than 10 %, and no gap above 5 standard errors" in text
    assert "both columns are measured on the same paths" not in text.lower()


def test_the_limits_have_their_price(certified: Path) -> None:
    text = words(certified)
    assert (
        text.index("After the search")
        < text.index("Here is what could be gained")
        < text.index("More leverage for users")
    )
    assert text.count("Tolerating twice as much on all limits at once would raise leverage by 2.1") == 2
    assert "Insolvency probability, limit 0.1 %: binds. If it alone were 10 % higher" in text
    assert "Bad debt, mean of the worst 1 %, limit 0.5 %: does not bind." in text


@pytest.mark.usefixtures("undrawn")
def test_where_nothing_is_proposed_limits_have_no_price(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    page = build_report(edited(folder, "recommended.json", status="infeasible", limits_doubled=None))
    assert "What the limits cost" not in words(page)
    assert 'href="#limits"' not in page.read_text(encoding="utf-8")


def test_assumptions_are_sorted_by_what_they_would_force(certified: Path) -> None:
    page = (
        certified.read_text(encoding="utf-8").split('<section id="drivers"')[1].split("<tbody>")[1].split("</tbody>")[0]
    )
    names = re.findall(r"<tr><td>(.*?)</td>", page)
    assert names == [
        "Volatility level",
        "Market depth",
        "Volatility multiplier",
        "Base margin",
        "Liquidation penalty",
    ]
    text = words(certified)
    assert "7.1 ± 0.4 +14.2 % ± 0.8 %" in text
    assert "\N{MINUS SIGN}1.9 ± 0.2 \N{MINUS SIGN}3.8 % ± 0.4 %" in text
    assert "the margin would have to be 14.2 % ± 0.8 % higher for the limits to hold again" in text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("certificate", "sampling"), "stratified", "'plain' or 'importance'"),
        (("certificate", "plain_share"), 0.0, "greater than 0"),
        (("certificate", "plain_share"), None, "`plain_share` is missing"),
        (("certificate", "paths"), 0, "greater than or equal to 1"),
        (("certificate", "gain"), "much", "number"),
        (("certificate", "constraints", 0, "shadow_price"), -1, "not negative, found -1"),
        (("certificate", "constraints", 1, "diagnosis"), {"effective_paths": 3}, "required"),
        (("certificate", "constraints", 1, "diagnosis", "largest_share"), [], "number"),
        (("sensitivities", 0, "a_tenth_more_forces"), 5, "dictionary"),
        (("sensitivities", 0, "a_tenth_more_forces", "margin_percent"), "up", "number"),
        (("limits_doubled", "max_leverage"), "13x", "number"),
    ],
)
def test_a_malformed_recommendation_is_the_users_to_mend(
    place: tuple[str | int, ...], value: object, message: str, tmp_path: Path
) -> None:
    folder, content = made_up_run.write_run(tmp_path), made_up_run.recommended()
    part: Any = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (folder / "recommended.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        build_report(folder)
    where = "certificate" if value is None else ".".join(map(str, place))
    assert f"recommended.json: {where}" in str(raised.value)
    assert message in str(raised.value)
    assert "Value error" not in str(raised.value)


def test_nothing_from_a_file_becomes_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    folder = made_up_run.write_run(tmp_path, name=evil)
    content = made_up_run.recommended(name=evil) | {"message": evil}
    content["policy"]["base_margin_bps"] |= {"unit": evil, "description": evil}
    content["certificate"]["constraints"][0]["name"] = evil
    content["sensitivities"][0] |= {"parameter": evil, "method": evil}
    (folder / "recommended.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "run.toml").write_text(f'"{evil}" = "{evil}"\n', encoding="utf-8")
    page = build_report(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script>") == page.count("</script>") == 2
    assert 'id="scenarios"' not in page, "none was swept"


def test_all_that_is_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    (folder / "run.toml").unlink()
    (folder / "metrics.json").write_text("{", encoding="utf-8")
    edited(folder, "recommended.json", status="perhaps", horizon_days="long")
    table = made_up_run.frontier().astype({"high": object})
    table.loc[2, "high"] = "much"
    table.to_csv(folder / "frontier.csv", index=False)
    edited(folder, "frontier.json", axes={"x": "leverage", "y": "bad_debt_es"})
    with pytest.raises(UserError) as raised:
        build_report(folder)
    lines = str(raised.value).splitlines()
    assert len(lines) == 6
    for place, message in [
        ("run.toml", "missing"),
        ("metrics.json", "cannot be read"),
        ("recommended.json: status", "certified"),
        ("recommended.json: horizon_days", "number"),
        ("frontier.csv: high", "'much' in row 3"),
        ("frontier.json: axes.x", "max_leverage"),
    ]:
        assert any(place in line and message in line for line in lines)
    assert not (folder / "report.html").exists()


def test_a_missing_folder_is_the_only_complaint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        build_report(tmp_path / "nowhere")


def test_a_standing_of_nobody_is_refused(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    edited(folder, "frontier.json", standings=[made_up_run.standing("nobody", 17.0, 1e-3)])
    with pytest.raises(UserError, match=r"frontier.json: standings: names nobody, of which frontier.csv has no row"):
        build_report(folder)


def test_columns_and_metrics_that_lack_are_named(tmp_path: Path) -> None:
    folder = made_up_run.write_run(tmp_path)
    made_up_run.frontier().drop(columns=["high", "dominated", "bad_debt_es_99_low"]).to_csv(
        folder / "frontier.csv", index=False
    )
    metrics = made_up_run.metrics(0)
    del metrics["metrics"]["bad_debt"]
    edited(folder, "metrics.json", incumbent=metrics, recommended=None)
    with pytest.raises(UserError) as raised:
        build_report(folder)
    text = str(raised.value)
    assert "lacks the columns dominated, high, bad_debt_es_99_low" in text
    assert "no bad_debt" in text
    assert "no metrics of the recommended parameters" in text


@pytest.mark.usefixtures("undrawn")
def test_a_report_can_be_built_again_in_place(tmp_path: Path) -> None:
    page = build_report(made_up_run.write_run(tmp_path))
    before = page.read_bytes()
    assert build_report(tmp_path).read_bytes() == before
