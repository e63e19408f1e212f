"""`calibrate export`: from a run folder to payloads and a memo, certified as rounded, step by step.

The run folders are written by hand, so that no search is needed; certificates are made for real, on the paths of a small job.
"""

import json
from pathlib import Path
from typing import Any

import made_up_run
import pytest
import small_job
from test_presets import JOB

from calibrate import pipeline
from calibrate.assemble import assemble
from calibrate.certify import certify
from calibrate.errors import UserError
from calibrate.evidence import verify
from calibrate.export.native import Basis
from calibrate.job import LoadedJob, load_job
from calibrate.presets import load_preset
from calibrate.progress import Silent
from calibrate.proposal import Export, changes, export, under_its_rules
from calibrate.run_folder import toml_text, write_json, write_text
from calibrate.venue_rules import incumbent_of
from calibrate.wording import TIMES

# A limit that a set of 16x does not keep; plain paths see that quickly.
TOO_STRICT = ("constraints.insolvency_probability=0.01", 'simulation.sampling="plain"')
# An Aave reserve that is far from safe in this market: 2 % maintenance, 4 % initial margin, hardly any penalty.
RESERVE = "venue.native={ltv_bps = 9600, liquidation_threshold_bps = 9800, liquidation_bonus_bps = 10001}"
AAVE = (
    "venue.preset=aave-v3:WETH",
    RESERVE,
    'oracle={kind = "exact"}',
    'venue.keepers="unlimited"',
    "policy.base_margin_bps={free = true, low = 100}",
)


def run_folder(folder: Path, *overrides: str, status: str = "certified", **policy: float) -> tuple[Path, LoadedJob]:
    """What a run with this job would have left behind, had it recommended `policy`."""
    loaded = load_job(small_job.write(folder, JOB), overrides)
    run = folder / "run"
    run.mkdir()
    values = {key: choice.value for key, choice in loaded.job.policy.choices().items()} | policy
    limits = [{"name": name, "limit": limit} for name, limit in loaded.job.constraints.limits().items()]
    content = {
        "name": "SMALL | job",
        "status": status,
        "horizon_days": 1.0,
        "policy": {key: {"value": value} for key, value in values.items()},
        "certificate": {"attempts": 1, "constraints": limits},
    }
    write_json(run / "recommended.json", content)
    write_json(run / "metrics.json", {"incumbent": made_up_run.metrics(0), "recommended": made_up_run.metrics(1)})
    write_text(run / "run.toml", toml_text(pipeline.record(loaded, 1.0)))
    return run, loaded


def exported(run: Path, venue: str | None = None, **options: Any) -> Export:
    return export(run, venue, run.parent, None, Silent(), **options)


def refused(run: Path, venue: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        exported(run, venue)
    (problem,) = error.value.problems
    return str(problem)


@pytest.fixture(scope="module")
def hyperliquid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    run, _ = run_folder(tmp_path_factory.mktemp("hyperliquid"), base_margin_bps=5_000 / 16)
    return run, exported(run, "hyperliquid:ETH")


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    run, _ = run_folder(tmp_path_factory.mktemp("aave"), *AAVE, base_margin_bps=300.0)
    return run, exported(run)


def test_a_table_is_written_with_what_it_rests_on(hyperliquid: tuple[Path, Export]) -> None:
    run, found = hyperliquid
    assert found.certified
    assert found.folder == run / "export-hyperliquid-ETH"
    assert sorted(path.name for path in found.folder.iterdir()) == ["export.json", "margin_table.json", "memo.md"]
    table = json.loads((found.folder / "margin_table.json").read_text())
    assert [tier["maxLeverage"] for tier in table["marginTiers"]] == [16, 15]
    content = json.loads((found.folder / "export.json").read_text())
    assert content == found.content
    assert content["changes"] == [{"field": "tiers.0.max_leverage", "before": 25, "after": 16}]


def test_what_the_run_certified_is_certified_on_the_same_paths(hyperliquid: tuple[Path, Export]) -> None:
    run, found = hyperliquid
    (step,) = found.content["steps"]
    (row,) = verify(run, run.parent, Silent()).rows
    assert (step["constraints"][0]["value"], step["constraints"][0]["upper"]) == (row.again, row.again_upper)


def test_the_memo_tells_what_why_and_on_what_grounds(hyperliquid: tuple[Path, Export]) -> None:
    _, found = hyperliquid
    assert found.folder is not None
    text = (found.folder / "memo.md").read_text()
    for says in (
        "# Hyperliquid: SMALL \\| job",
        "| `tiers.0.max_leverage` | 25 | 16 |",
        f"Highest leverage goes from 18.2{TIMES} to 21.3{TIMES}",  # of the made-up metrics
        "8,000 paths",
        "The least initial margin, plus what liquidated users pay, that keeps the limits (insolvency probability at most",
        "- Simulated: prices of ",
        "Not simulated: tiers: every position",
        "`margin_table.json`",
        "hyperliquid.gitbook.io",
    ):
        assert says in text
    assert "toxic" not in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## What changes", "## Why", "## Evidence", "## What was assumed", "## How to change it, and check this",
    ]  # fmt: skip


def test_a_policy_between_two_sets_is_rounded_to_the_careful_one_and_certified_as_such(tmp_path: Path) -> None:
    run, loaded = run_folder(tmp_path, base_margin_bps=300.0)  # 16.67x
    found = exported(run)
    (step,) = found.content["steps"]
    assert step["policy"]["base_margin_bps"] == 5_000 / 16
    certificate = certify(
        pipeline.problem_of(loaded, assemble(loaded)),
        pipeline.read_policy(_written(tmp_path / "rounded.json", step["policy"]), loaded, assemble(loaded)),
        seed=pipeline.derived_seed(loaded.job.simulation.seed, "export", 1),
        paths=loaded.job.simulation.paths,
        attempt=1,
        confidence=loaded.job.simulation.confidence,
        listener=Silent(),
    )
    assert step["constraints"][0]["value"] == certificate.holdings[0].estimate.value
    assert step["seed"] == certificate.seed


def _written(path: Path, policy: dict[str, float]) -> Path:
    write_json(path, {"policy": {key: {"value": value} for key, value in policy.items()}})
    return path


def test_the_memo_warns_of_liquidations_that_are_toxic_from_the_first(tmp_path: Path) -> None:
    presets = (
        "venue.preset=dydx-v4:large-cap",
        "policy.base_margin_bps={free = true}",
        "policy.penalty_bps={free = true}",
    )
    run, _ = run_folder(
        tmp_path, *presets, "constraints.insolvency_probability=0.9", base_margin_bps=240.0, penalty_bps=300.0
    )
    found = exported(run)
    assert found.folder is not None
    said = "**Liquidations can be toxic from the first: a maintenance margin of 240 bps"
    assert said in (found.folder / "memo.md").read_text()


def test_a_long_way_is_cut_into_the_venues_steps_and_each_is_certified_by_itself(stepwise: tuple[Path, Export]) -> None:
    _, found = stepwise
    steps = found.content["steps"]
    thresholds = [step["changes"] for step in steps]
    assert len(steps) == 4  # 200 bps of LTV at 50 each
    assert [change["after"] for step in thresholds for change in step if change["field"] == "ltv_bps"] == [
        9_550, 9_500, 9_450, 9_400,
    ]  # fmt: skip
    assert [step["not_before_day"] for step in steps] == [0, 3, 6, 9]
    chances = [step["constraints"][0]["value"] for step in steps]
    assert chances == sorted(chances, reverse=True)
    assert len({step["seed"] for step in steps}) == 4
    # What is in force breaks the limit, and so do the first sets on the way.
    assert [step["certified"] for step in steps] == [False, False, True, True]
    assert found.content["status"] == "not certified"
    assert not found.certified


def test_every_step_has_its_payload_and_the_memo_says_which_is_not_certified(stepwise: tuple[Path, Export]) -> None:
    _, found = stepwise
    assert found.folder is not None
    last = json.loads((found.folder / "step-04" / "config_engine.json").read_text())["CollateralUpdate"]
    assert (last["ltv"], last["liqThreshold"]) == ("9400", "9700")
    assert last["liqBonus"] == str(2**256 - 1 - 42)
    text = (found.folder / "memo.md").read_text()
    assert "| `ltv_bps` | 96 % (9,600) | 94 % (9,400) |" in text
    assert "in 4 steps; **not every set on the way is certified**" in text
    assert "| 2 | 3 | `ltv_bps` 9,550 to 9,500, `liquidation_threshold_bps` 9,775 to 9,750 | no |" in text


def test_governance_may_do_it_at_once(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, *AAVE, base_margin_bps=300.0)
    found = exported(run, "aave-v3", at_once=True)
    assert len(found.content["steps"]) == 1
    assert found.certified


VAULT = ("venue.preset=maker:ETH-A",)


def test_a_set_is_certified_under_the_rules_that_follow_from_it(tmp_path: Path) -> None:
    """Maker's hole counts debt: how much collateral that is depends on mat and chop. A rule of the job's own stays."""
    loaded = load_job(small_job.write(tmp_path, JOB), VAULT)
    assert loaded.preset is not None
    in_force = loaded.preset.native
    other = in_force.moved_to(in_force.policy() | {"base_margin_bps": 4_000.0})
    auction, there = loaded.job.venue.auction, under_its_rules(other, loaded).job.venue.auction
    assert auction is not None
    assert there is not None
    assert there == auction.model_copy(update={"most_usd": other.simulated()["auction"]["most_usd"]})
    assert there.most_usd != auction.most_usd
    assert under_its_rules(in_force, loaded) is loaded
    short = "venue.auction={start_bps=2000, fall_bps=100, fall_s=90, reset_after_s=3600, most_usd=1e6}"
    own = load_job(small_job.write(tmp_path, JOB), (*VAULT, short))
    assert under_its_rules(other, own).job.venue == own.job.venue


def test_a_set_that_does_not_keep_the_limits_is_not_written(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, *TOO_STRICT, base_margin_bps=5_000 / 16)
    found = exported(run)
    assert found.folder is None
    assert not found.certified
    assert [path.name for path in run.iterdir() if path.is_dir()] == []


def test_an_export_to_a_venue_whose_rules_the_run_did_not_use_is_refused(hyperliquid: tuple[Path, Export]) -> None:
    run, _ = hyperliquid
    said = refused(run, "aave-v3:WETH")
    assert "was calibrated under the rules of hyperliquid:ETH, not of aave-v3:WETH" in said


def test_a_run_without_a_venue_is_refused(tmp_path: Path) -> None:
    loaded = load_job(small_job.write(tmp_path))
    write_text(tmp_path / "run.toml", toml_text(pipeline.record(loaded, 1.0)))
    with pytest.raises(UserError, match="uses no venue's rules"):
        export(tmp_path, "maker:ETH-A", tmp_path, None, Silent())


def test_what_is_not_certified_is_not_proposed(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path, status="infeasible", base_margin_bps=250.0)
    assert "only what is certified can be proposed" in refused(run)


def test_nothing_to_change_is_said(tmp_path: Path) -> None:
    run, _ = run_folder(tmp_path)
    assert "recommends what is in force" in refused(run)


def test_a_folder_that_exists_is_left_alone(hyperliquid: tuple[Path, Export]) -> None:
    run, _ = hyperliquid
    assert "exists already" in refused(run)


def test_changes_of_a_table_are_told_row_by_row(tmp_path: Path) -> None:
    loaded = load_job(small_job.write(tmp_path, JOB))
    assert loaded.preset is not None
    before = incumbent_of(loaded.preset, loaded.job.policy)
    after = before.moved_to({"base_margin_bps": 500.0})
    assert [row["field"] for row in changes(before, after)] == ["tiers.0.max_leverage", "tiers.1.max_leverage"]
    assert changes(before, before) == []


def test_a_bracket_is_called_as_the_exchange_and_the_job_call_it() -> None:
    before = load_preset("binance:BTC", Path(), "", {"bracket": 5}).native
    after = before.moved_to(before.policy() | {"base_margin_bps": 220.0})
    assert [(row["field"], row["before"], row["after"]) for row in changes(before, after)] == [
        ("brackets.5.initial_leverage", 25, 22),
        ("brackets.5.maint_margin_ratio_bps", 200, 220),
    ]
    rows = after.proposal(before, Basis("", "", 1.0))["leverage_brackets.json"][0]["brackets"]
    assert [row["bracket"] for row in rows if row["initialLeverage"] == 22] == [5]


def test_a_proposals_summary_is_for_people(tmp_path: Path) -> None:
    presets = ("venue.preset=dydx-v4:large-cap", "policy.base_margin_bps={free = true}")
    run, _ = run_folder(tmp_path, *presets, "constraints.insolvency_probability=0.9", base_margin_bps=240.0)
    found = exported(run)
    assert found.folder is not None
    summary = json.loads((found.folder / "proposal.json").read_text())["summary"]
    assert summary.startswith(
        "Certified by simulation: insolvency probability at most 0.9, over 1 day at an open interest of "
    )
