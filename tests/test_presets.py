"""Venue files, and jobs that name one: what is filled in, what the job overrides, and how mistakes read."""

import json
from pathlib import Path
from typing import Any

import pytest
import small_job
from own_markets import OWN

from calibrate.assemble import assemble
from calibrate.errors import UserError
from calibrate.export.codecs import CODECS
from calibrate.export.native import Basis
from calibrate.job import load_job
from calibrate.pipeline import other_inputs, problem_of
from calibrate.presets import VENUES, load_preset, notes_of, read_venue, shipped_presets
from calibrate.venue_words import shown, shown_lines, venue_lines, venue_list

TEXT = small_job.TEXT.replace('\n[oracle]\nkind = "exact"\n', "").replace('keepers = "unlimited"\n', "")
JOB = TEXT.replace("[venue]\n", '[venue]\npreset = "hyperliquid:ETH"\n')
JOB = (
    JOB[: JOB.index("[policy]")] + "[policy]\nbase_margin_bps = { free = true }\n\n" + JOB[JOB.index("[constraints]") :]
)


def job(folder: Path, *overrides: str) -> Any:
    return load_job(small_job.write(folder, JOB), overrides)


def problems(folder: Path, *overrides: str) -> list[str]:
    path = small_job.write(folder, JOB)
    found = [str(problem) for problem in small_job.problems_of(path, *overrides)]
    return [text.removeprefix(f"{path}: ") for text in found]


# --- what is filled in ----------------------------------------------------------------------------------------------------


def test_a_preset_fills_what_the_job_leaves_open(tmp_path: Path) -> None:
    loaded = job(tmp_path)
    policy = loaded.job.policy
    assert (policy.base_margin_bps.value, policy.base_margin_bps.low, policy.base_margin_bps.high) == (200, 100, 5_000)
    assert policy.initial_ratio.value == 2
    assert policy.volatility_multiplier.value == 0
    assert loaded.job.oracle.kind == "exact"
    assert loaded.job.venue.keepers == "unlimited"
    assert loaded.job.venue.insurance_fund_usd == 300e3


def test_the_job_goes_first(tmp_path: Path) -> None:
    loaded = job(
        tmp_path,
        "venue.keeper_delay_s=7200",
        'oracle={kind="exact", delay_s=7200}',
        "policy.base_margin_bps={value=250, free=true, low=125}",
        "venue.native.tiers=[{lower_bound=0, max_leverage=20}]",
    )
    assert loaded.job.venue.keeper_delay_s == 7_200
    assert loaded.job.oracle.delay_s == 7_200
    assert (loaded.job.policy.base_margin_bps.low, loaded.job.policy.base_margin_bps.high) == (125, 5_000)
    assert loaded.job.policy.base_margin_bps.value == 250
    assert len(loaded.preset.native.tiers) == 1


@pytest.mark.parametrize("name", [name for name in shipped_presets() if name not in OWN])
def test_every_market_makes_a_job(name: str, tmp_path: Path) -> None:
    loaded = job(tmp_path, f"venue.preset={name}")
    assert loaded.preset.name == name
    problem = problem_of(loaded, assemble(loaded))
    settled = problem.settle(problem.incumbent)
    for one, other in zip(settled.policy, problem.incumbent.policy, strict=True):
        assert (one is None and other is None) or float(one) == pytest.approx(float(other), rel=1e-6)


@pytest.mark.parametrize("name", [name for name in shipped_presets() if name not in OWN])
def test_usual_bounds_keep_the_venues_rules(name: str, tmp_path: Path) -> None:
    """All parameters that a market may free are freed at once, without bounds of the job's own."""
    free = job(tmp_path, f"venue.preset={name}").preset.native.free
    loaded = job(tmp_path, f"venue.preset={name}", *(f"policy.{key}={{free=true}}" for key in free))
    assert set(loaded.job.policy.free()) == set(free)


def test_margins_are_searched_between_those_that_can_be_written(tmp_path: Path) -> None:
    loaded = job(tmp_path, "policy.base_margin_bps={free=true, low=101, high=4000}")
    (free,) = problem_of(loaded, assemble(loaded)).free
    assert (free.low, free.high) == (pytest.approx(50e-4 / 49 * 100), pytest.approx(0.5 / 2))


def test_morphos_penalty_follows_its_loan_to_value(tmp_path: Path) -> None:
    loaded = job(tmp_path, "venue.preset=morpho-blue:86")
    problem = problem_of(loaded, assemble(loaded))
    asked = problem.incumbent._replace(
        policy=problem.incumbent.policy._replace(base_margin=problem.low.dtype.type(0.2))
    )
    settled = problem.settle(asked).policy
    assert float(settled.base_margin) == pytest.approx(0.23, rel=1e-6)  # LLTV 77 %
    assert float(settled.penalty) == pytest.approx((1 / (1 - 0.3 * 0.23) - 1) * 0.77, rel=1e-5)


def test_a_venue_file_of_ones_own_lies_beside_the_job_and_counts_as_an_input(tmp_path: Path) -> None:
    mine = (VENUES / "hyperliquid.toml").read_text(encoding="utf-8").replace("max_leverage = 25", "max_leverage = 20")
    (tmp_path / "mine.toml").write_text(mine, encoding="utf-8")
    loaded = job(tmp_path, "venue.preset=mine.toml:ETH")
    assert loaded.job.policy.base_margin_bps.value == 250
    assert tmp_path / "mine.toml" in other_inputs(loaded)


def test_what_is_not_simulated_is_said(tmp_path: Path) -> None:
    first, *others = notes_of(job(tmp_path, "venue.preset=aave-v3:WETH").preset)
    assert "not simulated: a full repayment" in first
    assert any("read the live values" in text for text in others)
    assert notes_of(None) == []


# --- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "place", "says"),
    [
        ("venue.preset=hiperliquid:ETH", "venue.preset", "the nearest names are hyperliquid:ETH"),
        ("venue.preset=hyperliquid:PEPE", "venue.preset", "Hyperliquid has hyperliquid:BTC"),
        ("venue.preset=../mine.toml", "venue.preset", "no preset"),
        ("venue.preset=theirs.toml:ETH", "venue.preset", "there is no such venue file"),
        ("venue.preset=7", "venue.preset", "expected a name in quotes"),
        ("policy.initial_ratio=3", "policy.initial_ratio", "maintenance is half of the initial margin"),
        ("policy.penalty_bps={free=true}", "policy.penalty_bps", "cannot be free: a position closed on the book"),
        ("policy.volatility_multiplier=1", "policy.volatility_multiplier", "does not follow volatility"),
        ("policy.margin_rise_bps_per_hour=9", "policy.margin_rise_bps_per_hour", "does not limit how fast"),
        ("policy.base_margin_bps=210", "policy.base_margin_bps", "nearest on the careful side is 217.39"),
        ("policy.base_margin_bps={free=true, low=90}", "policy.base_margin_bps", "`low` is 90: breaks the venue's rule"),
        ("policy.base_margin_bps={free=true, low=0}", "policy.base_margin_bps", "needs a margin above 0"),
        ("venue.lowest_margin_bps=150", "venue.lowest_margin_bps", "cuts the margin off"),
        ("venue.native.tiers=[{lower_bound=0, max_leverage=5}, {lower_bound=0, max_leverage=9}]", "venue.native", "rises strictly"),
        ("venue.native.coins=1", "venue.native.coins", "unknown key"),
        ('scenarios=[{name="other", venue={preset="maker:ETH-A"}}]', "scenarios.0.venue.preset", "cannot change which venue"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(override: str, place: str, says: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, override)
    assert found.startswith(f"{place}: ")
    assert says in found


def test_a_bound_that_the_venue_forbids_is_told_with_its_rule(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "venue.preset=gmx-v2:BTC", "policy.base_margin_bps={free=true, high=150}")
    assert "`high` is 150: breaks the venue's rule: 0 < MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION <= 1 %" in found


def test_values_that_a_venue_does_not_have_are_all_asked_for(tmp_path: Path) -> None:
    found = problems(tmp_path, "venue.preset=euler-v2")
    names = ["collateral", "borrow_ltv_bps", "liquidation_ltv_bps", "max_liquidation_discount_bps", "ramp_duration_s"]
    assert [text.partition(":")[0] for text in found] == [f"venue.native.{name}" for name in names]


def test_native_values_without_a_venue_are_a_mistake(tmp_path: Path) -> None:
    path = small_job.write(tmp_path)
    (found,) = small_job.problems_of(path, "venue.native.coin=X")
    assert "there is none; name one or remove it" in found.message


def test_a_margin_that_may_only_stay_where_it_is_cannot_be_searched(tmp_path: Path) -> None:
    loaded = job(tmp_path, "policy.base_margin_bps={free=true, largest_change=3}")
    with pytest.raises(UserError, match="can write one value at most"):
        problem_of(loaded, assemble(loaded))


def test_a_broken_venue_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "Mine"\ncodec = "nyse"\nstatus = 3\nunknown = 1\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_venue(path)
    found = "\n".join(map(str, error.value.problems))
    for says in (
        "codec: found 'nyse'; expected one of aave-v3",
        "status:",
        "unknown: unknown key",
        "rules: is missing",
    ):
        assert f"{path}: {says}" in found
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(UserError, match="is not valid TOML"):
        read_venue(path)


def test_a_step_of_something_that_is_no_number_is_refused(tmp_path: Path) -> None:
    text = (VENUES / "aave-v3.toml").read_text(encoding="utf-8").replace("{ ltv_bps = 50", "{ asset = 1, ltv_bps = 50")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    (found,) = problems(tmp_path, "venue.preset=mine.toml:WETH")
    assert "change.largest_step.asset: is no whole number" in found


# --- what is shown --------------------------------------------------------------------------------------------------------


def test_every_preset_is_listed_with_date_and_source() -> None:
    rows = venue_list()
    assert [row["preset"] for row in rows] == shipped_presets()
    assert all(row["source"].startswith("https://") and row["as_of"][:2] == "20" for row in rows)
    assert len(venue_lines(rows)) <= 40


@pytest.mark.parametrize("name", shipped_presets())
def test_every_preset_is_shown_in_words_and_numbers(name: str) -> None:
    content = shown(name, Path())
    json.dumps(content, allow_nan=False)
    lines = shown_lines(content)
    text = "\n".join(lines)
    assert len(lines) < 75
    for heading in ("rules", "in force", "not simulated", "how it is changed", "sources"):
        assert f"\n{heading}" in text
    assert ("worked out" in text) == (name not in OWN)
    # Long addresses apart, lines fit a screen.
    assert all(len(line) <= 112 or "https://" in line for line in lines)


@pytest.mark.parametrize("path", sorted(VENUES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_venue_file_has_a_date_and_addresses(path: Path) -> None:
    venue = read_venue(path)
    assert all(source.startswith("https://") for source in venue.sources)
    assert venue.as_of[:4].isdigit()
    assert venue.rules
    assert venue.not_simulated


# --- the page -------------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs" / "venues.md").read_text(encoding="utf-8")


def test_the_page_speaks_of_every_venue() -> None:
    first = [line.split("|")[1].strip().strip("`") for line in PAGE.splitlines() if line.startswith("| `")]
    assert sorted(name for name in first if name in CODECS) == sorted([*CODECS, *CODECS])


def test_the_job_on_the_page_can_be_read(tmp_path: Path) -> None:
    shown_there = PAGE.split("```toml\n")[1].split("```")[0]
    text = JOB[: JOB.index("[venue]")] + shown_there + JOB[JOB.index("[constraints]") :]
    loaded = load_job(small_job.write(tmp_path, text))
    assert loaded.preset is not None
    assert loaded.job.policy.base_margin_bps.value == pytest.approx(300)  # 50,000 ppm x 0.6
    assert set(loaded.job.policy.free()) == {"base_margin_bps", "initial_ratio"}


@pytest.mark.parametrize(
    "name",
    ["aave-v3:WETH", "binance:BTC", "bybit:BTC", "compound-v3:WETH", "derive:BTC", "dydx-v4:large-cap", "gmx-v2:BTC",
     "hyperliquid:ETH", "liquity-v2:WETH", "maker:ETH-A", "morpho-blue:86", "okx:BTC", "synthetix-v3:BTC"],
)  # fmt: skip
def test_the_page_names_the_files_that_are_written(name: str) -> None:
    before = load_preset(name, Path(), "").native
    policy = before.policy()
    after = before.moved_to(policy | {"base_margin_bps": 1.2 * policy["base_margin_bps"]})
    assert after != before
    for file in after.proposal(before, Basis("", "", 1.0)):
        assert f"`{file}`" in PAGE
