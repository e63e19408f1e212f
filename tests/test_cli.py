"""The commands, from the outside: what they print where, what they write, and how they end.

One small run is made for all tests; the other commands find its compiled programs. What only a process of its own can show
(signals, what is imported, exit codes) is tested with one.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import pytest
import small_job
from command_line import Answer, call
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from calibrate import cli
from calibrate.job import load_job
from calibrate.shipped import shipped_folder

COMMANDS = ["run", "simulate", "frontier", "joint", "fit", "check", "verify", "compare", "export", "report", "init"]
RUN_FILES = [
    "figures/frontier.html",
    "figures/frontier.png",
    "figures/frontier.svg",
    "figures/metrics.png",
    "figures/metrics.svg",
    "figures/sensitivities.png",
    "figures/sensitivities.svg",
    "frontier.csv",
    "frontier.json",
    "frontier.parquet",
    "metrics.json",
    "recommended.json",
    "report.html",
    "run.toml",
]
CACHE_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
NAME = "[bold]ETH[/] :smile:"
ALTERNATIVES = "frontier.alternatives=[{name = 'Wide', base_margin_bps = 800}, {name = 'cheap', penalty_bps = 10}]"
TIGHT = "policy.base_margin_bps={value = 50, free = true, low = 40, high = 60}"


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """`python ...`, in a process of its own."""
    environment = os.environ | {"COLUMNS": "120", "PYTHONHASHSEED": "1", "NO_COLOR": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(cli.__file__).parents[1],
    )


def finished(process: subprocess.Popen[str], *, within_s: float = 240) -> Answer:
    try:
        out, err = process.communicate(timeout=within_s)
    finally:
        process.kill()
    return Answer(process.returncode, re.sub(r"\x1b\[[0-9;]*m", "", out), re.sub(r"\x1b\[[0-9;]*m", "", err))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def json_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def assert_metrics(content: dict[str, Any]) -> None:
    """The documented shape of a set of metrics."""
    assert {"metrics", "paths", "horizon_days", "seed", "tail_level", "open_interest_usd"} <= set(content)
    assert {"insolvency_probability", "bad_debt", "bad_debt_es_99", "max_leverage", "user_cost"} <= set(
        content["metrics"]
    )
    for name, entry in content["metrics"].items():
        assert set(entry) - {"warning"} == {"value", "standard_error", "interval"}, name
        low, high = entry["interval"]
        assert low <= entry["value"] <= high, name
        assert entry["standard_error"] >= 0, name


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs go to a folder of the tests, shared with the processes that they start."""
    before = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}
    reset_cache()  # earlier tests have settled that there is none
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        patch.setenv("COLUMNS", "120")
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_job.write(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def done(job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A finished run: its folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    return folder, call("run", job, "--output", folder)


# --- help and mistakes ----------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_loads_no_numerics() -> None:
    answer = finished(started("-X", "importtime", "-m", "calibrate", "--help"))
    assert answer.code == 0
    assert re.findall(r"^\W*([a-z]+)  +[A-Z]", answer.out.split("Commands")[1], flags=re.MULTILINE) == [
        *COMMANDS,
        "data",
        "venues",
    ]
    loaded = {line.rpartition("|")[2].strip() for line in answer.err.splitlines() if line.startswith("import time:")}
    assert "calibrate.cli" in loaded
    assert loaded.isdisjoint({"jax", "numpy", "scipy", "pandas", "altair", "equinox", "calibrate.pipeline"})


@pytest.mark.parametrize("command", [*COMMANDS, "data", "data check", "data fetch", "data sample"])
def test_every_command_explains_itself(command: str) -> None:
    answer = call(*command.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"calibrate {command}" in answer.out


def test_the_commands_are_those_that_are_tested() -> None:
    assert [info.callback.__name__ for info in cli.app.registered_commands if info.callback] == COMMANDS


def test_mistakes_in_a_job_are_one_line_each_and_no_traceback(job: Path) -> None:
    sets = ["--set", "simulation.pathz=3", "--set", "liquidity.depth_usd=-1"]
    answer = finished(started("-m", "calibrate", "run", job, *sets))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.splitlines() == [
        f"error: {job}: liquidity.depth_usd: Input should be greater than 0 (found -1)",
        f"error: {job}: simulation.pathz: unknown key; did you mean `paths`?",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["simulate", "nowhere.toml", "--json"], "nowhere.toml: cannot be read"),
        (["frontier", "JOB", "--set", "frontier.points=1"], "frontier.points"),
        (["check", "JOB", "--set", "policy.base_margin_bps=250"], "no parameter is free"),
        (["simulate", "JOB", "--policy", "nowhere.json"], "nowhere.json: cannot be read"),
        (["simulate", "JOB", "--policy", "JOB"], "is not valid JSON"),
        (["report", "nowhere"], "no such run folder"),
        (["fit", "nowhere.csv", "-o", "model.toml"], "nowhere.csv"),
        (["run", "JOB", "--set", "market.model=nowhere", "--set", "x"], "--set x: expected section.key=value"),
        (["run", "JOB", "-o", "JOB/run"], "cannot be created"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_a_user_can_mend_ends_with_two(
    arguments: list[str], said: str, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = call(*(argument.replace("JOB", str(job)) for argument in arguments))
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["simulate"], ["walk"], ["simulate", "JOB", "--paths", "3"], ["check", "JOB", "--bump", "0"]]
)
def test_a_wrong_command_line_is_the_users_mistake_too(arguments: list[str]) -> None:
    answer = call(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert "--help" in answer.err


def test_a_bug_of_ours_keeps_its_traceback(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("calibrate.pipeline.simulate_job", broken)
    with pytest.raises(ZeroDivisionError):
        call("simulate", job)


def test_all_mistakes_in_a_policy_are_told_at_once(job: Path, tmp_path: Path) -> None:
    policy = {
        "base_margin_bps": {"value": -1},
        "keeper_share": {"value": 1.5},
        "penalty_bps": {"value": "much"},
        "pennalty_bps": {"value": 1},
    }
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy": policy}), encoding="utf-8")
    answer = call("simulate", job, "--policy", path)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 4
    for name in policy:
        assert f"error: {path}: policy.{name}" in answer.err


def test_a_policy_whose_certificate_cannot_be_read_is_refused(job: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    certificate = {"attempts": "many", "paths": "x", "seed": None, "constraints": []}
    path.write_text(json.dumps({"policy": {}, "certificate": certificate}), encoding="utf-8")
    answer = call("simulate", job, "--policy", path)
    assert (answer.code, answer.out) == (2, "")
    assert f"error: {path}: certificate.attempts: found 'many'; expected a whole number from 1 to 3" in answer.err


def test_a_policy_with_weight_on_stress_needs_a_venue_that_knows_stress(job: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy": {"stress_weight": {"value": 0.25}}}), encoding="utf-8")
    answer = call("simulate", job, "--policy", path)
    assert answer.code == 2
    assert f"error: {path}: policy.stress_weight: is 0.25, but `venue.stressed_volatility` is missing" in answer.err


def test_a_policy_without_a_limit_has_none_in_a_job_with_one(job: Path, tmp_path: Path) -> None:
    limits = ("--set", "policy.margin_rise_bps_per_hour=3", "--set", "policy.margin_fall_bps_per_hour=5")
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy": {"margin_fall_bps_per_hour": {"value": 4}}}), encoding="utf-8")
    shown = [
        json.loads(call("simulate", job, *limits, "--json", *policy).out)["policy"]
        for policy in ((), ("--policy", path))
    ]
    expected = small_policy() | {"base_margin_bps": 200}
    assert shown[0] == pytest.approx(
        expected | {"margin_rise_bps_per_hour": 3, "margin_fall_bps_per_hour": 5}, rel=1e-6
    )
    assert shown[1] == pytest.approx(expected | {"margin_fall_bps_per_hour": 4}, rel=1e-6)


# --- verify and compare ---------------------------------------------------------------------------------------------------


def test_a_run_is_verified_from_the_command_line(done: tuple[Path, Answer], tmp_path: Path) -> None:
    folder, _ = done
    answer = call("verify", folder)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "verified: every figure agrees, and every limit is kept"
    copied = Path(shutil.copytree(folder, tmp_path / "run"))
    content = json_of(copied / "recommended.json")
    content["certificate"]["seed"] += 1
    (copied / "recommended.json").write_text(json.dumps(content), encoding="utf-8")
    refused = call("verify", copied, "--json")
    assert refused.code == 1
    assert json.loads(refused.out)["as_prescribed"] is False


def test_policies_are_compared_from_the_command_line(done: tuple[Path, Answer], job: Path) -> None:
    answer = call("compare", "incumbent", done[0], "--job", job, "--json")
    assert answer.code == 0, answer.err
    rows = {row["metric"]: row for row in json.loads(answer.out)["rows"]}
    assert rows["max_leverage"]["verdict"] == "higher"
    shown = call("compare", "incumbent", done[0], "--job", job)
    assert "not told apart" in shown.out or "lower" in shown.out
    assert "8,000 shared paths" in shown.out


# --- run ------------------------------------------------------------------------------------------------------------------


def test_a_certified_run_ends_with_zero_and_says_so(done: tuple[Path, Answer]) -> None:
    folder, answer = done
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-2:] == [
        "certified: every limit is kept on fresh paths",
        f"report: {folder / 'report.html'}",
    ]
    assert "base_margin_bps" in answer.out
    assert answer.err.count("screening paths (") == 1, "said once, however often a search screens"
    assert "screening paths" not in answer.out
    standings = [line for line in answer.out.splitlines() if " against the frontier: " in line]
    assert [line.split()[0] for line in standings] == ["incumbent", "recommended"]


def test_a_run_folder_is_complete_and_nothing_lies_beside_it(done: tuple[Path, Answer]) -> None:
    folder, _ = done
    assert files_in(folder) == RUN_FILES
    assert [path.name for path in folder.parent.iterdir()] == ["done"]


def test_a_run_recommends_within_the_bounds_and_keeps_its_limits(done: tuple[Path, Answer]) -> None:
    recommended = json_of(done[0] / "recommended.json")
    assert recommended["status"] == "certified"
    assert list(recommended["policy"]) == list(small_policy())
    base = recommended["policy"]["base_margin_bps"]
    assert base["unit"] == "bps"
    assert base["low"] <= base["value"] <= base["high"]
    assert base["change"] == pytest.approx(base["value"] - 200)
    fixed = recommended["policy"]["penalty_bps"]
    assert (fixed["value"], fixed["change"], fixed["free"]) == (100, 0, False)
    certificate = recommended["certificate"]
    assert certificate["paths"] == 8_000 * 2 ** (certificate["attempts"] - 1)
    assert certificate["confidence"] >= 0.95
    (limit,) = certificate["constraints"]
    assert limit["value"] <= limit["upper"] <= limit["limit"] == 0.1
    assert limit["satisfied"]
    names = {row["parameter"] for row in recommended["sensitivities"]}
    assert {"base_margin", "volatility level", "market depth"} <= names
    assert "jump rate" not in names, "a market without jumps has no rate of them"


def small_policy() -> dict[str, float]:
    """The incumbent of the small job, defaults included."""
    tables = tomllib.loads(small_job.TEXT)
    tables["policy"] |= {"margin_floor_bps": 0, "initial_ratio": 2, "keeper_share": 0.5, "forecast_memory_hours": 24}
    tables["policy"] |= {"stress_weight": 0}
    return tables["policy"]


def test_a_runs_metrics_and_frontier_have_their_shape(done: tuple[Path, Answer]) -> None:
    folder, _ = done
    metrics = json_of(folder / "metrics.json")
    assert list(metrics) == ["incumbent", "recommended"]
    for part in metrics.values():
        assert_metrics(part)
        assert (part["horizon_days"], part["open_interest_usd"]) == (1.0, 150e6)
    certificate = json_of(folder / "recommended.json")["certificate"]
    assert [part["paths"] for part in metrics.values()] == [8_000, certificate["paths"]]
    frontier = pd.read_csv(folder / "frontier.csv")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "frontier.parquet"), frontier, rtol=1e-15, atol=0)
    assert frontier["label"].tolist() == ["frontier", "frontier", "incumbent", "recommended"]
    assert frontier["tolerance"].tolist()[:2] == pytest.approx([0.04, 0.02])
    for row in frontier.itertuples():
        assert row.low <= row.insolvency_probability <= row.high
        assert row.bad_debt_es_99_low <= row.bad_debt_es_99 <= row.bad_debt_es_99_high
    assert frontier["dominated"].dtype == bool


def test_a_run_says_where_policies_stand_against_its_frontier(done: tuple[Path, Answer]) -> None:
    folder, _ = done
    trade_off, frontier = json_of(folder / "frontier.json"), pd.read_csv(folder / "frontier.csv").set_index("label")
    assert trade_off["axes"] == {"x": "max_leverage", "y": "insolvency_probability"}
    area = trade_off["hypervolume"]
    assert area["reference"] == {"max_leverage": 1, "insolvency_probability": 0.04}
    assert 0 < area["standard_error"] < area["value"]
    assert [entry["label"] for entry in trade_off["standings"]] == ["incumbent", "recommended"]
    for entry in trade_off["standings"]:
        row = frontier.loc[entry["label"]]
        assert entry["max_leverage"]["value"] == pytest.approx(row["max_leverage"])
        assert entry["insolvency_probability"]["value"] == pytest.approx(row["insolvency_probability"])
        assert entry["dominated"] == row["dominated"]
        assert {"more_leverage", "times_safer"} <= set(entry)


def test_a_run_can_be_made_again_from_its_record(done: tuple[Path, Answer], tmp_path: Path) -> None:
    record = tomllib.loads((done[0] / "run.toml").read_text(encoding="utf-8"))
    assert record["job"]["text"] == small_job.TEXT
    assert record["seed"] == 7
    assert record["overrides"] == []
    assert {"calibrate", "jax", "numpy"} <= set(record["versions"])
    assert list(record["inputs_sha256"]) == ["small.toml"]
    assert load_job(small_job.write(tmp_path, record["job"]["text"])).job.name == "SMALL"


def test_a_run_into_an_existing_folder_is_refused_before_it_starts(done: tuple[Path, Answer], job: Path) -> None:
    folder, _ = done
    before = {name: (folder / name).read_bytes() for name in files_in(folder)}
    for command in ("run", "frontier"):
        answer = call(command, job, "-o", folder)
        assert answer.code == 2
        assert f"error: {folder}: exists already; choose another --output\n" in answer.err
        assert "screening" not in answer.err
    assert {name: (folder / name).read_bytes() for name in files_in(folder)} == before


def test_the_same_seed_gives_the_same_recommendation_in_another_process(
    done: tuple[Path, Answer], job: Path, tmp_path: Path
) -> None:
    answer = finished(started("-m", "calibrate", "run", job, "--json", "-o", tmp_path / "again"))
    assert answer.code == 0, answer.err
    printed = json.loads(answer.out)
    assert set(printed) == {"folder", "recommended", "metrics", "trade_off"}
    assert printed["trade_off"] == json_of(done[0] / "frontier.json")
    assert printed["recommended"] == json_of(done[0] / "recommended.json")
    assert "certificate (8,000)" in answer.err.splitlines()
    for name in ("recommended.json", "metrics.json", "frontier.csv", "frontier.json"):
        assert (tmp_path / "again" / name).read_bytes() == (done[0] / name).read_bytes()


@pytest.fixture(scope="module")
def infeasible(job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A run whose bounds are too tight for its limit, under a name that looks like markup."""
    folder = tmp_path_factory.mktemp("runs") / "infeasible"
    sets = [TIGHT, "constraints.insolvency_probability=1e-3", f"name={NAME}"]
    return folder, call("run", job, *(word for text in sets for word in ("--set", text)), "-o", folder)


def test_a_name_is_shown_as_it_is_written(infeasible: tuple[Path, Answer]) -> None:
    folder, answer = infeasible
    assert answer.out.lstrip().startswith(f"{NAME}: infeasible")
    assert json_of(folder / "recommended.json")["name"] == NAME


def test_an_infeasible_run_ends_with_one_and_names_the_limit(infeasible: tuple[Path, Answer]) -> None:
    folder, answer = infeasible
    assert answer.code == 1
    (line,) = [line for line in answer.out.splitlines() if line.startswith("infeasible: ")]
    found = re.search(r"insolvency_probability is still ([\d.e+]+) times what the limit of 0.001 leaves", line)
    assert found
    assert float(found[1]) > 1
    assert "widen the bounds" in line
    assert files_in(folder) == [name for name in RUN_FILES if "sensitivities" not in name]
    recommended = json_of(folder / "recommended.json")
    assert (recommended["status"], recommended["certificate"], recommended["sensitivities"]) == ("infeasible", None, [])
    assert list(json_of(folder / "metrics.json")) == ["incumbent"]
    assert recommended["policy"]["base_margin_bps"]["value"] == 50, "nothing is proposed"


def test_a_refused_certificate_ends_with_one(job: Path, tmp_path: Path) -> None:
    # Even without a single insolvent path, 8,000 plain paths show no probability below 4.6e-4 at a first attempt's confidence.
    folder = tmp_path / "run"
    changes = ("--set", "constraints.insolvency_probability=4e-4", "--set", "simulation.sampling=plain")
    answer = call("run", job, *changes, "--json", "-o", folder)
    assert answer.code == 1
    recommended = json.loads(answer.out)["recommended"]
    assert recommended["status"] == "not certified"
    assert "more simulation.paths would narrow the interval" in recommended["message"]
    assert recommended["certificate"]["attempts"] == 3
    assert answer.err.count("certificate refused") == 3
    assert (folder / "report.html").exists()


# --- simulate -------------------------------------------------------------------------------------------------------------


def test_simulate_prints_one_object_and_talks_on_stderr(job: Path) -> None:
    answer = call("simulate", job, "--json")
    assert answer.code == 0
    content = json.loads(answer.out)
    assert_metrics(content)
    assert (content["paths"], content["horizon_days"]) == (8_000, 1.0)
    assert content["policy"] == pytest.approx(small_policy() | {"base_margin_bps": 200}, rel=1e-6)
    assert "simulating (8,000)" in answer.err


def test_simulate_shows_every_metric_by_its_full_name(job: Path) -> None:
    answer = call("simulate", job)
    names = json.loads(call("simulate", job, "--json").out)["metrics"]
    assert [line.split()[0] for line in answer.out.splitlines() if line.split() and line.split()[0] in names] == list(
        names
    )


def test_the_recommended_policy_has_the_metrics_it_was_recommended_for(done: tuple[Path, Answer], job: Path) -> None:
    folder, _ = done
    answer = call("simulate", job, "--policy", folder / "recommended.json", "--json")
    recommended = json_of(folder / "metrics.json")["recommended"]
    content = json.loads(answer.out)
    assert (content["seed"], content["paths"]) == (recommended["seed"], recommended["paths"])
    assert content["metrics"] == recommended["metrics"]


def test_the_incumbent_has_the_metrics_of_the_run(done: tuple[Path, Answer], job: Path) -> None:
    simulated = json.loads(call("simulate", job, "--json").out)
    remarked = {name: simulated.pop(name) for name in ("attacks", "toxic_liquidations", "remarks")}
    assert simulated == json_of(done[0] / "metrics.json")["incumbent"]
    assert len(remarked["remarks"]) == 1, "a third of the penalties cannot be paid here"
    assert remarked["remarks"][0].startswith("toxic liquidations: ")


def test_what_is_legal_but_hardly_meant_is_noted_on_stderr(job: Path) -> None:
    answer = call("simulate", job, "--set", "oracle.delay_s=100", "--json")
    assert "note: oracle.delay_s is rounded from 100 s to 0 steps (0 s)" in answer.err.splitlines()
    assert json.loads(answer.out)


# --- the other commands ---------------------------------------------------------------------------------------------------


def test_frontier_writes_its_table_and_figures(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frontier"
    answer = call("frontier", job, "--set", ALTERNATIVES, "--json", "-o", folder)
    assert answer.code == 0
    kinds = ("csv", "html", "json", "parquet", "png", "svg")
    assert files_in(folder) == [*(f"frontier.{kind}" for kind in kinds), "run.toml"]
    content = json.loads(answer.out)
    assert content["folder"] == str(folder)
    labels = ["frontier", "frontier", "incumbent", "Wide", "cheap"]
    assert [row["label"] for row in content["frontier"]] == labels
    assert [row["label"] for row in content["frontier"]] == pd.read_csv(folder / "frontier.csv")["label"].tolist()
    assert content["frontier"][-1]["tolerance"] is None
    assert "frontier: searching (2)" in answer.err
    incumbent, wide, cheap = content["frontier"][2:]
    assert wide["base_margin_bps"] == pytest.approx(800)
    assert wide["max_leverage"] < incumbent["max_leverage"]
    assert wide["insolvency_probability"] < incumbent["insolvency_probability"]
    assert (cheap["base_margin_bps"], cheap["penalty_bps"]) == pytest.approx((incumbent["base_margin_bps"], 10))
    assert content["trade_off"] == json_of(folder / "frontier.json")
    assert [entry["label"] for entry in content["trade_off"]["standings"]] == labels[2:]
    drawn = (folder / "frontier.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in ("Incumbent", "Wide", "cheap"))


def test_frontier_says_where_policies_stand_and_draws_the_axes_that_were_asked_for(job: Path, tmp_path: Path) -> None:
    sets = ["--set", ALTERNATIVES, "--set", "frontier.x=user_cost", "--set", "frontier.y=bad_debt_es"]
    answer = call("frontier", job, *sets, "-o", tmp_path / "frontier")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split()[-2:] == ["certified", "dominated"]
    assert [line.partition(" against the frontier: ")[0] for line in lines[-5:-2]] == ["incumbent", "Wide", "cheap"]
    assert lines[-2].startswith("hypervolume: ")
    assert "± " in lines[-2]
    drawn = (tmp_path / "frontier" / "frontier.svg").read_text(encoding="utf-8")
    assert "SMALL: worst losses against cost to users" in drawn


def test_report_rebuilds_what_was_deleted(done: tuple[Path, Answer], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done[0], folder)
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "figures")
    answer = call("report", folder)
    assert (answer.code, answer.out, answer.err) == (0, f"report: {folder / 'report.html'}\n", "")
    assert files_in(folder) == RUN_FILES
    assert (folder / "report.html").read_bytes() == (done[0] / "report.html").read_bytes()


def test_check_says_what_would_run(job: Path) -> None:
    answer = call("check", job, "--json")
    assert answer.code == 0
    content = json.loads(answer.out)
    assert (content["name"], content["steps"], content["free"]) == ("SMALL", 12, ["base_margin_bps"])
    assert content["limits"] == {"insolvency_probability": 0.1}
    assert (content["optimiser_paths"], content["certificate_paths"], content["frontier_points"]) == (800, 8_000, 2)
    assert content["seconds"] > 0
    assert content["memory_mb"] > 0
    assert content["path_steps_per_second"] > 0
    lines = call("check", job).out.splitlines()
    assert lines[0] == f"{job}: no problems"
    assert len(lines) == len(content["lines"])


def test_check_compares_derivatives_with_difference_quotients(job: Path) -> None:
    answer = call("check", job, "--gradients", "--paths", "512", "--json")
    assert answer.code == 0, answer.out
    rows = json.loads(answer.out)["gradients"]
    assert {row["parameter"] for row in rows} == {"base_margin", "volatility_scale", "depth_scale"}
    assert all(row["agrees"] for row in rows)
    assert any(row["pathwise"] != 0 for row in rows)
    for row in rows:
        assert {"metric", "parameter", "pathwise", "standard_error", "finite_difference"} <= set(row)


def test_init_lays_out_jobs_that_run_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    answer = call("init", folder)
    assert answer.code == 0
    assert sorted(answer.out.splitlines()) == [str(folder / name) for name in files_in(folder)]
    assert {"configs/eth-perp.toml", "models/eth-usd.toml"} <= set(files_in(folder))
    for name in files_in(folder):
        kind, _, rest = name.partition("/")
        assert (folder / name).read_bytes() == (shipped_folder(kind) / rest).read_bytes()
    for path in (folder / "configs").iterdir():
        assert load_job(path).job.name
    (folder / "configs" / "eth-perp.toml").write_text("mine", encoding="utf-8")
    (folder / "models" / "eth-usd.toml").unlink()
    again = call("init", folder)
    assert again.code == 2
    assert all(line.endswith("exists already; choose an empty folder") for line in again.err.splitlines())
    assert len(again.err.splitlines()) == len(answer.out.splitlines()) - 1
    assert (folder / "configs" / "eth-perp.toml").read_text(encoding="utf-8") == "mine"
    assert not (folder / "models" / "eth-usd.toml").exists(), "nothing is copied where something is in the way"
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert call("init", tmp_path / "file").code == 2


# --- interruptions --------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_leaves_nothing_but_what_it_can_go_on_with(job: Path, tmp_path: Path) -> None:
    sets = ["--set", "simulation.paths=4e7", "--set", "simulation.optimiser_paths=4e6"]
    command = ["-m", "calibrate", "run", job, *sets, "-o", tmp_path / "run"]
    process = started(*command)
    assert process.stderr is not None
    while "screening" not in process.stderr.readline():
        assert process.poll() is None
    area = tmp_path / ".run.unfinished"
    assert list(tmp_path.iterdir()) == [area], "the draft is in there while the run is on"
    while len(list(area.glob("chunks/*"))) < 2:
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    answer = finished(process, within_s=60)
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "interrupted; the same command with --resume goes on from here"
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == [area]
    assert sorted(path.name for path in area.iterdir()) == ["chunks", "made-of.json"]
    refused = finished(started(*command))
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[-1] == (
        f"error: {area}: an unfinished run of this name is there; add --resume to go on with it, or remove it to start afresh"
    )


def test_an_interruption_while_things_are_loaded_is_not_lost() -> None:
    # A KeyboardInterrupt that is raised inside an import may be swallowed by what happens to run there.
    code = """
import os, signal, sys
from calibrate import cli, runtime
def swallow():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        print("still here")
    except KeyboardInterrupt:
        pass
runtime.configure = swallow
sys.argv = ["calibrate", "simulate", "nowhere.toml"]
cli.main()
"""
    assert finished(started("-c", code)) == (130, "", "interrupted; nothing was written\n")
