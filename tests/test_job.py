"""A job is checked as a whole before anything runs, and its units are converted once, in both directions."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import small_job
from small_job import problems_of

from calibrate.assemble import POLICY_UNITS, assemble, policy_in_human_units, policy_of, warnings_of
from calibrate.errors import UserError
from calibrate.job import load_job
from calibrate.job_policy import LEGAL, AlternativeSection, PolicySection
from calibrate.pipeline import DESCRIPTIONS, limits_of, problem_of
from calibrate.shipped import shipped_folder, shipped_names

YEAR_S = 365 * 86_400

# Overrides that spoil the job, the place that is to be named, and what is to be said there.
MISTAKES = {
    "unknown key": (["simulation.pathz=1000"], "simulation.pathz", ["unknown key", "did you mean `paths`?"]),
    "unknown section": (["simulatoin.paths=1e6"], "simulatoin", ["unknown key", "did you mean `simulation`?"]),
    "unknown key like none": (["simulation.qqq=1"], "simulation.qqq", ["unknown key; remove it or correct its name"]),
    "text for a number": (["liquidity.depth_usd=deep"], "liquidity.depth_usd", ["valid number", "found 'deep'"]),
    "number for text": (["name=3"], "name", ["valid string", "found 3"]),
    "text for a switch": (["venue.recheck=yes"], "venue.recheck", ["valid boolean", "found 'yes'"]),
    "switch for a number": (["simulation.step_s=true"], "simulation.step_s", ["valid number", "found true"]),
    "date for a number": (["simulation.step_s=2024-06-01"], "simulation.step_s", ["valid number", "2024-06-01"]),
    "number for a table": (["market=3"], "market", ["found 3", "expected a table"]),
    "table for a number": (["simulation.paths.x=3"], "simulation.paths", ["valid integer", "found a table"]),
    "text for a parameter": (["policy.penalty_bps=a"], "policy.penalty_bps", ["found 'a'", "a number, or a table"]),
    "list for a parameter": (["policy.penalty_bps=[1]"], "policy.penalty_bps", ["found a list of 1", "a number, or"]),
    "negative depth": (["liquidity.depth_usd=-1"], "liquidity.depth_usd", ["greater than 0", "found -1"]),
    "depth that is no number": (["liquidity.depth_usd=nan"], "liquidity.depth_usd", ["finite", "found nan"]),
    "half a path": (["simulation.paths=1500.5"], "simulation.paths", ["valid integer", "found 1500.5"]),
    "infinitely many paths": (["simulation.paths=inf"], "simulation.paths", ["valid integer", "found inf"]),
    "too few paths": (["simulation.paths=10"], "simulation.paths", ["greater than or equal to 1000", "found 10"]),
    "negative seed": (["simulation.seed=-1"], "simulation.seed", ["greater than or equal to 0", "found -1"]),
    "limit of one": (
        ["constraints.insolvency_probability=1"], "constraints.insolvency_probability", ["less than 1", "found 1"],
    ),
    "a forecast without use": (
        ["policy.volatility_multiplier=0", "policy.forecast_memory_hours={value=24,free=true,low=1,high=100}"],
        "policy.forecast_memory_hours", ["nothing depends on it", "`volatility_multiplier` is 0 throughout"],
    ),
    "a forecast without weight": (
        [
            "venue.stressed_volatility=1.5", "policy.stress_weight=1",
            "policy.forecast_memory_hours={value=24,free=true,low=1,high=100}",
        ],
        "policy.forecast_memory_hours", ["nothing depends on it", "leaves no weight to the forecast"],
    ),
    "a floor that nothing meets": (
        ["policy.margin_floor_bps={value=50,free=true,low=1,high=100}"],
        "policy.margin_floor_bps", ["nothing depends on it", "never below 150"],
    ),
    "a margin that is always the highest": (
        ["venue.highest_margin_bps=120"], "policy.base_margin_bps", ["nothing depends on it", "always at", "120"],
    ),
    "a limit that no plain path can show": (
        ["simulation.sampling=plain", "constraints.insolvency_probability=1e-5"],
        "constraints.insolvency_probability", ["8,000 plainly drawn paths", "at least 299,572"],
    ),
    "shares of some scenarios only": (
        ["scenarios=[{name='a',share=0.2,liquidity={depth_usd=1e6}},{name='b',liquidity={depth_usd=2e6}}]"],
        "scenarios.1", ["has no `share`", "one to each, or to none"],
    ),
    "shares of more than the whole": (
        ["scenarios=[{name='a',share=0.6,liquidity={depth_usd=1e6}},{name='b',share=0.5,liquidity={depth_usd=2e6}}]"],
        "scenarios", ["add up to 1.1", "less than 1"],
    ),
    "an average of shortfalls": (
        ["scenarios=[{name='a',share=0.2,liquidity={depth_usd=1e6}}]", "constraints.bad_debt_es=1e-3"],
        "constraints.bad_debt_es", ["cannot be averaged", "every `share`"],
    ),
    "no such oracle": (["oracle.kind=pull"], "oracle.kind", ["'exact', 'push' or 'continuous'", "found 'pull'"]),
    "no such keepers": (["venue.keepers=lazy"], "venue.keepers", ["'for-profit' or 'unlimited'", "found 'lazy'"]),
    "push without heartbeat": (
        ["oracle.kind=push", "oracle.deviation_bps=10"], "oracle", ["needs `deviation_bps` and `heartbeat_s`"],
    ),
    "heartbeat without push": (["oracle.heartbeat_s=60"], "oracle", ['belong to kind = "push"', '"exact"']),
    "clock without push": (["oracle.heartbeat_restarts=false"], "oracle", ['`heartbeat_restarts` belongs to kind = "push"']),
    "growth without end": (
        ["oracle.delay_s=60", "oracle.delay_volatility_exponent=0.5"], "oracle", ["needs", "`longest_delay_s`, both or neither"],
    ),
    "growth of nothing": (
        ["oracle.delay_volatility_exponent=0.5", "oracle.longest_delay_s=60"], "oracle", ["`delay_s` is 0; expected above 0"],
    ),
    "delay between the steps": (["oracle.kind=continuous", "oracle.delay_s=60"], "oracle", ["remove `delay_s`"]),
    "delay beyond the horizon": (["oracle.delay_s=1e12"], "oracle.delay_s", ["is 1e+12 s", "horizon of 86400 s"]),
    "keepers after the horizon": (["venue.keeper_delay_s=1e6"], "venue.keeper_delay_s", ["is 1e+06 s", "86400 s"]),
    "two kinds of market": (["market.model=eth-usd"], "market", ["either `model`", "or `volatility`", "not both"]),
    "start of a constant": (["market.initial_volatility=1.0"], "market", ["no meaning", "remove one of them"]),
    "more than the whole": (["liquidity.fast_share=0.9"], "liquidity", ["is 1.2", "expected at most 1"]),
    "two kinds of book": (
        ["book.positions=p.csv"], "book", ["either `cohorts` or `positions` (a table), not both or neither"],
    ),
    "no cohorts": (["book.cohorts=[]"], "book.cohorts", ["at least 1 item"]),
    "cohort without side": (
        ["book.cohorts=[{share = 1, mixture = [{weight = 1, median_excess = 1, spread = 1}]}]"],
        "book.cohorts.0.side", ["is missing; add it"],
    ),
    "part of a mixture": (
        ["book.cohorts=[{side = 'long', share = 1, mixture = [{weight = 1, median_excess = -1, spread = 1}]}]"],
        "book.cohorts.0.mixture.0.median_excess", ["greater than 0", "found -1"],
    ),
    "margins the wrong way round": (["venue.lowest_margin_bps=6000"], "venue", ["is 6000", "5000", "to be smaller"]),
    "bounds without the incumbent": (
        ["policy.base_margin_bps.low=300"], "policy.base_margin_bps", ["200 lies outside", "[300, 1000]", "widen"],
    ),
    "incumbent above an open bound": (
        ["policy.penalty_bps.high=50"], "policy.penalty_bps", ["100 lies outside", "[open, 50]"],
    ),
    "free without bounds": (["policy.penalty_bps.free=true"], "policy.penalty_bps", ["needs `low` and `high`"]),
    "bounds the wrong way round": (
        ["policy.penalty_bps={value = 100, free = true, low = 200, high = 100}"],
        "policy.penalty_bps", ["`low` is 200 and `high` 100", "`low` to be smaller"],
    ),
    "bounds of no width": (
        ["policy.penalty_bps={value = 100, free = true, low = 100, high = 100}"],
        "policy.penalty_bps", ["`low` is 100 and `high` 100"],
    ),
    "no change allowed": (
        ["policy.base_margin_bps.largest_change=0"], "policy.base_margin_bps.largest_change", ["greater than 0"],
    ),
    "more than all to keepers": (["policy.keeper_share=1.5"], "policy.keeper_share", ["is 1.5", "expected 0 to 1"]),
    "bound out of range": (
        ["policy.base_margin_bps.high=20_000"], "policy.base_margin_bps", ["`high` is 20000", "0 to 10000"],
    ),
    "weight of no stress": (
        ["policy.stress_weight=0.3"], "policy.stress_weight", ["is 0.3", "`venue.stressed_volatility` is missing", "add"],
    ),
    "free weight of no stress": (
        ["policy.stress_weight={value = 0, free = true, low = 0, high = 0.5}"],
        "policy.stress_weight", ["is free", "`venue.stressed_volatility` is missing", "add"],
    ),
    "margin that may rise less than not at all": (
        ["policy.margin_rise_bps_per_hour=-5"], "policy.margin_rise_bps_per_hour", ["is -5", "expected 0 to 1e+06"],
    ),
    "margin that may fall less than not at all": (
        ["policy.margin_fall_bps_per_hour={value = 5, free = true, low = -1, high = 10}"],
        "policy.margin_fall_bps_per_hour", ["`low` is -1", "expected 0 to 1e+06"],
    ),
    "text for a limit": (
        ["policy.margin_rise_bps_per_hour=none"], "policy.margin_rise_bps_per_hour", ["found 'none'", "a number, or"],
    ),
    "more than all stress": (["policy.stress_weight=1.5"], "policy.stress_weight", ["is 1.5", "expected 0 to 1"]),
    "no stress": (["venue.stressed_volatility=0"], "venue.stressed_volatility", ["greater than 0", "found 0"]),
    "no margin at all": (
        ["policy.base_margin_bps=0", "policy.volatility_multiplier=0"], "policy", ["no margin at all", "raise"],
    ),
    "optimiser takes too many": (
        ["simulation.optimiser_paths=1e6"], "simulation", ["1,000,000", "8,000", "at least ten times"],
    ),
    "budget below the first certificate": (["simulation.most_paths=100"], "simulation", ["100", "at least as many"]),
    "too many steps": (["simulation.step_s=1e-3"], "simulation", ["8.64e+07 steps", "expected 2 to 1,000,000"]),
    "too few steps": (["simulation.step_s=1e9"], "simulation", ["8.64e-05 steps", "expected 2 to 1,000,000"]),
    "endless horizon": (["simulation.horizon_days=1e308"], "simulation", ["inf steps"]),
    "one point": (["frontier.points=1"], "frontier.points", ["greater than or equal to 2", "found 1"]),
    "axis that is not drawn": (["frontier.x=leverage"], "frontier.x", ["'max_leverage' or 'user_cost'", "'leverage'"]),
    "alternative that is no list": (
        ["frontier.alternatives.name=wide"], "frontier.alternatives",
        ["found a table", "expected a list of tables, each under [[frontier.alternatives]]"],
    ),
    "alternative with an unknown key": (
        ["frontier.alternatives=[{name = 'wide', penalty_bsp = 90}]"],
        "frontier.alternatives.0.penalty_bsp", ["unknown key", "did you mean `penalty_bps`?"],
    ),
    "alternative out of range": (
        ["frontier.alternatives=[{name = 'wide', initial_ratio = 0.5}]"],
        "frontier.alternatives.0.initial_ratio", ["found 0.5", "expected 1 to 100"],
    ),
    "alternative that is no number": (
        ["frontier.alternatives=[{name = 'wide', penalty_bps = nan}]"],
        "frontier.alternatives.0.penalty_bps", ["found nan", "expected 0 to 10000"],
    ),
    "alternative that may move": (
        ["frontier.alternatives=[{name = 'wide', penalty_bps = {value = 90, free = true}}]"],
        "frontier.alternatives.0.penalty_bps", ["valid number", "found a table"],
    ),
    "alternative without a name": (
        ["frontier.alternatives=[{penalty_bps = 90}]"], "frontier.alternatives.0.name", ["is missing"],
    ),
    "alternative with an empty name": (
        ["frontier.alternatives=[{name = '', penalty_bps = 90}]"],
        "frontier.alternatives.0.name", ["found ''", "1 to 24 printable characters"],
    ),
    "alternative with spaces around its name": (
        ["frontier.alternatives=[{name = 'wide ', penalty_bps = 90}]"],
        "frontier.alternatives.0.name", ["found 'wide '", "no spaces around them"],
    ),
    "alternative with a long name": (
        ["frontier.alternatives=[{name = 'wwwwwwwwwwiiiiiiiiiidddde', penalty_bps = 90}]"],
        "frontier.alternatives.0.name", ["1 to 24 printable characters"],
    ),
    "alternative with a name of ours": (
        ["frontier.alternatives=[{name = 'Best Found', penalty_bps = 90}]"],
        "frontier.alternatives.0.name", ["'Best Found' is taken", "choose another name"],
    ),
    "alternative that changes nothing": (
        ["frontier.alternatives=[{name = 'same'}]"], "frontier.alternatives.0", ["sets no key", "`penalty_bps`"],
    ),
    "alternative without margin": (
        ["frontier.alternatives=[{name = 'none', base_margin_bps = 0, volatility_multiplier = 0}]"],
        "frontier.alternatives.0", ["no margin at all", "raise"],
    ),
    "two alternatives of one name": (
        ["frontier.alternatives=[{name = 'Wide', penalty_bps = 90}, {name = 'wide', penalty_bps = 80}]"],
        "frontier.alternatives.1.name", ["'wide' is the name of alternatives.0 too", "give each its own"],
    ),
    "too many alternatives": (
        [f"frontier.alternatives=[{', '.join(f'{{name = {i!r}, penalty_bps = 90}}' for i in 'abcdefghi')}]"],
        "frontier.alternatives", ["at most 8 items", "found a list of 9"],
    ),
    "frontier the wrong way round": (["frontier.strictest=0.5"], "frontier", ["is 0.5", "0.04", "to be smaller"]),
}  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return small_job.write(tmp_path)


def without(text: str) -> str:
    assert text in small_job.TEXT
    return small_job.TEXT.replace(text, "")


# --- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_what_to_do(mistake: str, job: Path) -> None:
    overrides, place, phrases = MISTAKES[mistake]
    (problem,) = problems_of(job, *overrides)
    assert problem.place == f"{job}: {place}"
    for phrase in phrases:
        assert phrase in problem.message
    assert "Section" not in str(problem), "names of classes mean nothing to a user"


def test_all_mistakes_of_a_file_come_at_once(job: Path) -> None:
    overrides = [
        "simulation.pathz=1000", "simulation.seed=-1", "market.model=eth-usd", "oracle.kind=push", "name=3",
        "liquidity.depth_usd=-1", "policy.base_margin_bps.low=300", "policy.penalty_bps.free=true",
        "policy.keeper_share=2", "venue.lowest_margin_bps=6000", "constraints.bad_debt_es=2", "frontier.points=1",
    ]  # fmt: skip
    found = problems_of(job, *overrides)
    assert sorted(problem.place.removeprefix(f"{job}: ") for problem in found) == [
        "constraints.bad_debt_es",
        "frontier.points",
        "liquidity.depth_usd",
        "market",
        "name",
        "oracle",
        "policy.base_margin_bps",
        "policy.keeper_share",
        "policy.penalty_bps",
        "simulation.pathz",
        "simulation.seed",
        "venue",
    ]


def test_all_mistakes_in_the_alternatives_come_at_once(job: Path) -> None:
    entries = [
        "{name = 'wide', penalty_bsp = 90}",
        "{name = 'incumbent', penalty_bps = 20_000}",
        "{name = 'wide', keeper_share = -1}",
    ]
    found = problems_of(job, f"frontier.alternatives=[{', '.join(entries)}]", "frontier.y=loss")
    assert sorted(problem.place.removeprefix(f"{job}: frontier.") for problem in found) == [
        "alternatives.0.penalty_bsp",
        "alternatives.1.name",
        "alternatives.1.penalty_bps",
        "alternatives.2.keeper_share",
        "alternatives.2.name",
        "y",
    ]


def test_an_alternative_is_the_incumbent_but_for_what_it_sets(job: Path) -> None:
    text = "frontier.alternatives=[{name = 'wide', base_margin_bps = 300, keeper_share = 0.25}]"
    loaded = load_job(job, [text]).job
    incumbent = {key: choice.value for key, choice in loaded.policy.choices().items()}
    assert loaded.alternatives() == {"wide": incumbent | {"base_margin_bps": 300, "keeper_share": 0.25}}
    assert load_job(job).job.alternatives() == {}


def test_two_mistakes_within_a_section_are_told_together(job: Path) -> None:
    (problem,) = problems_of(job, "simulation.optimiser_paths=1e6", "simulation.step_s=1e9")
    assert "ten times" in problem.message
    assert "steps" in problem.message


def test_mistakes_between_sections_come_at_once(job: Path) -> None:
    found = problems_of(job, "oracle.delay_s=1e6", "venue.keeper_delay_s=1e6")
    assert [problem.place.removeprefix(f"{job}: ") for problem in found] == ["oracle.delay_s", "venue.keeper_delay_s"]


@pytest.mark.parametrize(
    ("left_out", "place", "phrase"),
    [
        ("volatility = 1.0", "market", "either `model` (a fitted model) or `volatility`"),
        ("[constraints]\ninsolvency_probability = 0.1", "constraints", "is missing; add it to the job file"),
        ("insolvency_probability = 0.1", "constraints", "give at least one limit"),
        ("depth_usd = 25e6", "liquidity.depth_usd", "is missing"),
        ("open_interest_usd = 150e6", "book", "a book of `cohorts` needs `open_interest_usd`"),
        ("penalty_bps = 100", "policy.penalty_bps", "is missing"),
    ],
)
def test_what_is_missing_is_named(left_out: str, place: str, phrase: str, tmp_path: Path) -> None:
    path = small_job.write(tmp_path, without(left_out))
    (problem,) = problems_of(path)
    assert problem.place == f"{path}: {place}"
    assert phrase in problem.message


@pytest.mark.parametrize(
    ("found", "instead", "line"),
    [("[oracle]", "[oracle", 6), ('kind = "exact"', "kind = exact", 7), ("[venue]", "[market]", 21)],
)
def test_broken_toml_is_told_with_its_line(found: str, instead: str, line: int, tmp_path: Path) -> None:
    path = small_job.write(tmp_path, small_job.TEXT.replace(found, instead))
    (problem,) = problems_of(path)
    assert problem.place == str(path)
    assert problem.message.startswith("is not valid TOML: ")
    assert f"at line {line}, column" in problem.message


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (missing,) = problems_of(tmp_path / "nowhere.toml")
    assert str(missing).endswith(
        "nowhere.toml: cannot be read (No such file or directory); give the path of a job file"
    )
    (folder,) = problems_of(tmp_path)
    assert "Is a directory" in folder.message
    (tmp_path / "picture.toml").write_bytes(b"\xff\xfe\x00")
    (picture,) = problems_of(tmp_path / "picture.toml")
    assert "not text in UTF-8" in picture.message


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b"\xef\xbb\xbf" + small_job.TEXT.replace("\n", "\r\n").encode())
    assert problems_of(path) == []


# --- what a job refers to -------------------------------------------------------------------------------------------------

WITH_MODEL = small_job.TEXT.replace("volatility = 1.0", 'model = "mine.toml"', 1)
GOOD_MODEL = """\
[model]
family = "constant"

[parameters]
volatility = 0.8
drift = 0.1
"""


def problems_of_assembly(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as raised:
        assemble(load_job(path, overrides))
    return [str(problem) for problem in raised.value.problems]


def test_an_unknown_model_is_told_with_those_there_are(tmp_path: Path) -> None:
    path = small_job.write(tmp_path, WITH_MODEL)
    (said,) = problems_of_assembly(path, "market.model=xrp-usd")
    assert said.startswith(f"{path}: market.model: no model 'xrp-usd'")
    for name in shipped_names("models"):
        assert name in said


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        (b"\xff\xfe\x00", ["mine.toml"]),
        (b"[model\n", ["mine.toml", "line 1"]),
        (GOOD_MODEL.replace("0.8", "-0.8").encode(), ["mine.toml", "volatility", "-0.8"]),
        (GOOD_MODEL.replace("constant", "constnat").encode(), ["mine.toml", "constnat", "constant"]),
    ],
)
def test_a_model_that_cannot_be_used_is_a_users_error(content: bytes, phrases: list[str], tmp_path: Path) -> None:
    path = small_job.write(tmp_path, WITH_MODEL)
    (tmp_path / "mine.toml").write_bytes(content)
    said = "\n".join(problems_of_assembly(path))
    for phrase in phrases:
        assert phrase in said


def test_a_model_beside_the_job_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_job.write(tmp_path, WITH_MODEL)
    (tmp_path / "mine.toml").write_text(GOOD_MODEL, encoding="utf-8")
    monkeypatch.chdir("/")
    market = assemble(load_job(path)).scenario.market
    np.testing.assert_allclose([float(market.volatility.volatility), float(market.drift)], [0.8, 0.1], rtol=1e-6)


def test_a_missing_table_of_positions_is_a_users_error(tmp_path: Path) -> None:
    book = small_job.TEXT[small_job.TEXT.index("[book]") : small_job.TEXT.index("[venue]")]
    path = small_job.write(tmp_path, small_job.TEXT.replace(book, '[book]\npositions = "mine.csv"\n\n'))
    (said,) = problems_of_assembly(path)
    assert said.startswith(f"{tmp_path / 'mine.csv'}: cannot read the file")


# --- overrides ------------------------------------------------------------------------------------------------------------


def test_overrides_are_read_as_toml_or_else_as_text(job: Path) -> None:
    overrides = [
        "simulation.paths=1e6", "simulation.seed=3.0", "name=ETH one", "oracle.kind = continuous", "venue.recheck=false",
        "liquidity.depth_usd=1_000_000", "constraints.bad_debt_es = 1e-3", "venue.keepers='for-profit'",
    ]  # fmt: skip
    loaded = load_job(job, overrides)
    assert loaded.job.simulation.paths == 1_000_000
    assert isinstance(loaded.job.simulation.paths, int)
    assert loaded.job.simulation.seed == 3
    assert loaded.job.name == "ETH one"
    assert loaded.job.oracle.kind == "continuous"
    assert loaded.job.venue.recheck is False
    assert loaded.job.venue.keepers == "for-profit"
    assert loaded.job.liquidity.depth_usd == 1e6
    assert loaded.job.constraints.limits() == {"insolvency_probability": 0.1, "bad_debt_es": 1e-3}
    assert loaded.overrides == overrides
    assert loaded.text == small_job.TEXT


def test_the_last_of_two_overrides_counts(job: Path) -> None:
    assert load_job(job, ["simulation.paths=1e6", "simulation.paths=2e6"]).job.simulation.paths == 2_000_000


def test_an_override_adds_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = small_job.write(tmp_path, without("[constraints]\ninsolvency_probability = 0.1"))
    loaded = load_job(path, ["constraints.bad_debt_es=1e-3", "objective.user_cost_weight=0"])
    assert loaded.job.constraints.limits() == {"bad_debt_es": 1e-3}
    assert loaded.job.objective.user_cost_weight == 0


def test_an_override_frees_a_parameter_that_was_a_plain_number(job: Path) -> None:
    low_high = ["policy.penalty_bps.low=20", "policy.penalty_bps.high=400"]
    policy = load_job(job, ["policy.penalty_bps.free=true", *low_high]).job.policy
    assert list(policy.free()) == ["base_margin_bps", "penalty_bps"]
    assert policy.penalty_bps.value == 100
    assert policy.penalty_bps.reach == (20, 400)
    limited = load_job(
        job, ["policy.penalty_bps.free=true", *low_high, "policy.penalty_bps.largest_change=30"]
    ).job.policy
    assert limited.penalty_bps.reach == (70, 130)


def test_an_override_fixes_a_parameter_that_was_free(job: Path) -> None:
    policy = load_job(job, ["policy.base_margin_bps=150"]).job.policy
    assert policy.free() == {}
    assert policy.base_margin_bps.reach == (150, 150)


@pytest.mark.parametrize("override", ["paths", "=3", ".=3", "simulation.=3", "simulation..paths=3", ""])
def test_a_malformed_override_is_told_how_to_write_it(override: str, job: Path) -> None:
    (problem,) = problems_of(job, override)
    assert str(problem) == f"--set {override}: expected section.key=value, such as simulation.paths=1e6"


def test_an_override_cannot_reach_into_what_is_no_table(job: Path) -> None:
    found = problems_of(job, "name.first=3", "book.cohorts.0.share=0.5")
    assert [str(problem) for problem in found] == [
        "--set name.first=3: `name` is not a table in the job file",
        "--set book.cohorts.0.share=0.5: `cohorts` is not a table in the job file",
    ]


def test_an_overridden_value_is_checked_like_the_file(job: Path) -> None:
    assert len(problems_of(job, "simulation.pathz=1", "liquidity.depth_usd=-1", "x=1")) == 3


# --- units ----------------------------------------------------------------------------------------------------------------

HUMAN = {
    "base_margin_bps": 123.0,
    "volatility_multiplier": 1.5,
    "penalty_bps": 75.0,
    "margin_floor_bps": 50.0,
    "initial_ratio": 2.0,
    "keeper_share": 0.25,
    "forecast_memory_hours": 24.0,
    "stress_weight": 0.25,
    "margin_rise_bps_per_hour": 40.0,
    "margin_fall_bps_per_hour": 8.0,
}
FIELDS = {
    "base_margin": 0.0123,
    "volatility_multiplier": 1.5,
    "penalty": 0.0075,
    "margin_floor": 0.005,
    "initial_ratio": 2.0,
    "keeper_share": 0.25,
    "forecast_memory": 1 / 365,
    "stress_weight": 0.25,
    "margin_rise": 0.004 * 8760,
    "margin_fall": 0.0008 * 8760,
}


@pytest.mark.parametrize(("precision", "accuracy"), [("float32", 2e-7), ("float64", 1e-15)])
def test_a_policy_is_converted_and_converted_back(precision: str, accuracy: float) -> None:
    policy = policy_of(HUMAN, np.dtype(precision))
    assert {name: value.dtype.name for name, value in policy._asdict().items()} == dict.fromkeys(FIELDS, precision)
    for name, value in FIELDS.items():
        np.testing.assert_allclose(getattr(policy, name), value, rtol=accuracy)
    back = policy_in_human_units(policy)
    assert list(back) == list(HUMAN)
    for name, value in HUMAN.items():
        np.testing.assert_allclose(back[name], value, rtol=2 * accuracy)
    again = policy_of(back, np.dtype(precision))
    assert all(getattr(again, name) == getattr(policy, name) for name in FIELDS)


def test_every_parameter_of_the_job_has_a_unit_a_range_and_a_description() -> None:
    assert set(POLICY_UNITS) == set(PolicySection.model_fields) == set(LEGAL) == set(DESCRIPTIONS)
    assert set(AlternativeSection.model_fields) == {"name", *LEGAL}


def test_a_limit_that_a_job_does_not_set_is_none(job: Path) -> None:
    loaded = load_job(job, ["policy.margin_fall_bps_per_hour={value = 8, free = true, low = 0, high = 100}"])
    assert list(loaded.job.policy.free()) == ["base_margin_bps", "margin_fall_bps_per_hour"]
    policy = assemble(loaded).incumbent.policy
    assert policy.margin_rise is None
    np.testing.assert_allclose(float(policy.margin_fall), 0.0008 * 8760, rtol=1e-6)
    assert "margin_rise_bps_per_hour" not in loaded.job.policy.choices() | policy_in_human_units(policy)


def test_a_job_becomes_years_fractions_and_shares(job: Path) -> None:
    overrides = [
        "simulation.precision=float64", "simulation.step_s=600", "oracle.kind=push", "oracle.deviation_bps=10",
        "oracle.heartbeat_s=3600", "oracle.delay_s=1200", "venue.keeper_delay_s=600", "venue.gas_usd=2",
        "book.position_usd=40_000", "liquidity.half_spread_bps=3", "venue.lowest_margin_bps=10",
        "venue.highest_margin_bps=4000", "venue.penalty_allowance=0.5", "venue.keepers=for-profit", "venue.recheck=false",
        "venue.stressed_volatility=1.5", "policy.stress_weight=0.2",
    ]  # fmt: skip
    scenario, incumbent, open_interest_usd = assemble(load_job(job, overrides))
    assert scenario.dtype == np.float64
    assert scenario.steps == 144
    assert open_interest_usd == 150e6
    expected = {
        "step": (scenario.dt, 600 / YEAR_S),
        "base margin": (incumbent.policy.base_margin, 0.02),
        "volatility": (scenario.market.volatility.volatility, 1.0),
        "volatility level": (incumbent.world.volatility_scale, 1.0),
        "depth": (scenario.liquidity.depth, 25 / 150),
        "fast recovery": (scenario.liquidity.fast_time, 300 / YEAR_S),
        "slow recovery": (scenario.liquidity.slow_time, 7200 / YEAR_S),
        "deviation": (scenario.oracle.deviation, 0.001),
        "heartbeat": (scenario.oracle.heartbeat, 3600 / YEAR_S),
        "fund": (scenario.venue.fund, 0.3 / 150),
        "gas": (scenario.venue.gas, 2 / 40_000),
        "half spread": (scenario.venue.half_spread, 3e-4),
        "lowest margin": (scenario.venue.margin.lowest, 0.001),
        "highest margin": (scenario.venue.margin.highest, 0.4),
        "allowance": (scenario.venue.margin.penalty_allowance, 0.5),
        "margin horizon": (scenario.venue.margin.horizon, 3600 / YEAR_S),
        "stressed volatility": (scenario.venue.margin.stressed_volatility, 1.5),
        "stress weight": (incumbent.policy.stress_weight, 0.2),
        "reference": (scenario.book.reference_margin, 2 * (0.02 + 0.5 * 0.01 + (0.8 + 0.2 * 1.5) * np.sqrt(1 / 8760))),
    }
    for name, (found, wanted) in expected.items():
        np.testing.assert_allclose(float(found), wanted, rtol=1e-12, err_msg=name)
    assert int(scenario.oracle.delay.steps) == 2
    assert int(scenario.venue.keeper_delay.steps) == 1
    assert (scenario.venue.recheck, scenario.venue.unlimited_keepers, scenario.book.responds) == (False, False, True)


def test_what_is_legal_but_hardly_meant_is_noted(job: Path) -> None:
    assert warnings_of(load_job(job).job) == []
    rounded = load_job(job, ["venue.keeper_delay_s=100"]).job
    assert warnings_of(rounded) == ["venue.keeper_delay_s is rounded from 100 s to 0 steps (0 s)"]
    poor = load_job(job, ["venue.keepers=for-profit", "venue.gas_usd=1000"]).job
    (note,) = warnings_of(poor)
    assert "keepers earn no more than their gas" in note


@pytest.mark.parametrize("name", shipped_names("configs"))
def test_a_shipped_job_can_be_assembled_and_raises_no_eyebrow(name: str) -> None:
    path = shipped_folder("configs") / f"{name}.toml"
    loaded = load_job(path)
    assert assemble(loaded).scenario.steps == loaded.job.simulation.steps
    assert warnings_of(loaded.job) == []
    assert loaded.job.policy.free()


def test_what_a_shipped_job_leaves_commented_out_can_be_switched_on(tmp_path: Path) -> None:
    text = (shipped_folder("configs") / "eth-perp.toml").read_text(encoding="utf-8")
    on, lines = re.subn(r"^# (?=\w+ += |\[\[)", "", text, flags=re.MULTILINE)
    assert lines == 10
    path = tmp_path / "job.toml"
    path.write_text(on, encoding="utf-8")
    loaded = load_job(path)
    assert {"stress_weight", "margin_rise_bps_per_hour", "margin_fall_bps_per_hour"} <= set(loaded.job.policy.free())
    policy = assemble(loaded).incumbent.policy
    assert None not in policy
    assert loaded.job.alternatives()["wider margin"]["base_margin_bps"] == 300
    assert loaded.variants["half the depth"].liquidity.depth_usd == 12.5e6


def test_shipped_jobs_and_models_are_there() -> None:
    assert "eth-perp" in shipped_names("configs")
    assert {"btc-usd", "eth-usd"} <= set(shipped_names("models"))
    for name in shipped_names("models"):
        assert tomllib.loads((shipped_folder("models") / f"{name}.toml").read_text(encoding="utf-8"))


# --- scenarios ------------------------------------------------------------------------------------------------------------

SCENARIOS = """
[[scenarios]]
name = "thin book"
liquidity.depth_usd = 5e6
oracle.delay_s = 7200

[[scenarios]]
name = "calm"
market.volatility = 0.3
"""


def with_scenarios(folder: Path, text: str) -> Path:
    return small_job.write(folder, small_job.TEXT + text)


def test_a_scenario_is_the_job_with_some_keys_changed(tmp_path: Path) -> None:
    loaded = load_job(with_scenarios(tmp_path, SCENARIOS))
    assert list(loaded.variants) == ["thin book", "calm"]
    thin = loaded.variants["thin book"]
    assert (thin.liquidity.depth_usd, thin.oracle.delay_s, thin.market.volatility) == (5e6, 7200, 1.0)
    assert loaded.variants["calm"].market.volatility == 0.3
    assert loaded.job.liquidity.depth_usd == 25e6
    problem = problem_of(loaded, assemble(loaded))
    assert [c.name for part in problem.each for c in part.constraints] == [
        "insolvency_probability", "insolvency_probability [thin book]", "insolvency_probability [calm]",
    ]  # fmt: skip
    depths = [float(part.scenario.liquidity.depth) for part in problem.each]
    np.testing.assert_allclose(depths[1] / depths[0], 0.2, rtol=1e-6)


def test_a_model_in_a_scenario_takes_the_place_of_the_volatility(tmp_path: Path) -> None:
    loaded = load_job(with_scenarios(tmp_path, '[[scenarios]]\nname = "eth"\nmarket.model = "eth-usd"\n'))
    assert loaded.variants["eth"].market.model == "eth-usd"
    assert loaded.variants["eth"].market.volatility is None


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ('[[scenarios]]\nname = "a"\nliquidity.depth_usd = -1\n', "scenarios.0: liquidity.depth_usd", "greater than 0"),
        ('[[scenarios]]\nname = "a"\nliquidity.deep = 1\n', "scenarios.0: liquidity.deep", "unknown key"),
        ('[[scenarios]]\nname = "a"\n', "scenarios.0", "changes nothing"),
        ('[[scenarios]]\nname = "a"\npolicy.penalty_bps = 1\n', "scenarios.0.policy", "unknown key"),
        (SCENARIOS.replace("calm", "thin book"), "scenarios.1.name", "its own"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_told_with_its_place(text: str, place: str, word: str, tmp_path: Path) -> None:
    found = problems_of(with_scenarios(tmp_path, text))
    assert any(problem.place.endswith(place) and word in problem.message for problem in found), found


def test_a_scenario_with_a_broken_model_is_told_before_anything_runs(tmp_path: Path) -> None:
    loaded = load_job(with_scenarios(tmp_path, '[[scenarios]]\nname = "moon"\nmarket.model = "lunar"\n'))
    with pytest.raises(UserError, match=r"scenario 'moon'.*no model 'lunar'"):
        problem_of(loaded, assemble(loaded))


def test_limits_may_be_given_on_costs_swings_and_dollars(tmp_path: Path) -> None:
    loaded = load_job(
        small_job.write(tmp_path),
        ["constraints.bad_debt_es_usd=1.5e5", "constraints.user_cost=0.01", "constraints.margin_peak_to_trough=3"],
    )
    limits = {c.name: c.limit for c in limits_of(loaded.job, assemble(loaded))}
    assert limits["bad_debt_es"] == pytest.approx(1e-3)
    assert set(limits) == {"insolvency_probability", "bad_debt_es", "user_cost", "margin_peak_to_trough"}
    found = problems_of(small_job.write(tmp_path), "constraints.bad_debt_es_usd=1e5", "constraints.bad_debt_es=1e-3")
    assert any("not as both" in problem.message for problem in found)
    assert problems_of(small_job.write(tmp_path), "constraints.insolvency_probability=0")


@pytest.mark.parametrize(("upper", "said"), [(151e6, False), (150e6, True)])
def test_open_interest_at_its_cap_is_said_since_nobody_has_leverage_then(upper: float, said: bool, job: Path) -> None:
    caps = f"venue.open_interest_add_on={{lower_usd = 1e6, upper_usd = {upper}}}"
    notes = warnings_of(load_job(job, (caps, "book.open_interest_usd=150e6")).job)
    assert [note.partition(":")[2] for note in notes if "cap of" in note] == [
        " nobody has leverage, whatever the margins"
    ] * said
