"""The rules under `[venue]` of a job: mistakes are told with their place, and units are converted."""

from pathlib import Path

import numpy as np
import pytest
import small_job

from calibrate.assemble import assemble, warnings_of
from calibrate.job import load_job
from calibrate.metrics import metrics_of
from calibrate.simulate import simulate
from calibrate.units import SECONDS_PER_YEAR
from calibrate.venue.incentive import LimitOrder

FRACTION = ["venue.close.rule=fraction", "venue.close.fraction=0.5"]
BONUS = ["venue.incentive.bonus.lowest_part=0", "venue.incentive.bonus.to_health=0.5"]
AUCTION = [f"venue.auction.{key}" for key in ("start_bps=1000", "fall_bps=100", "fall_s=90", "reset_after_s=7200")]
TIERS = "venue.tiers=[{from_usd=0,factor=1.0},{from_usd=1e6,factor=2.0}]"
# Overrides that spoil the job, the place that is to be named, and what is to be said there.
MISTAKES = {
    "window without cap": (["venue.backstop.fund_cap_window_s=60"], "venue.backstop", ["no meaning without `fund_cap_usd`"]),
    "order of nobody": (
        ["venue.backstop.vault_usd=1e6", "venue.backstop.deleveraging_order=most-leveraged"], "venue.backstop",
        ["they are not; add `auto_deleveraging = true`"],
    ),
    "rank and parts": (
        [*FRACTION, "venue.backstop.auto_deleveraging=true", "venue.backstop.deleveraging_order=most-leveraged"],
        "venue", ["cannot be combined with `auction`, `close` or `margin_calls`"],
    ),
    "batches between steps": (["venue.batch_s=10_000"], "venue.batch_s", ["a whole number of steps of 7200 s"]),
    "buffer of another rule": ([*FRACTION, "venue.close.buffer_bps=5"], "venue.close", ['belongs to rule = "to-buffer"']),
    "ramp from nowhere": (
        ["venue.close.rule=to-buffer", "venue.close.buffer_bps=200", "venue.close.ramp_s=60"], "venue.close",
        ["belong together; give both or neither"],
    ),
    "no layer": (["venue.backstop.auto_deleveraging=false"], "venue.backstop", ["names no layer"]),
    "tiers that start late": (
        ["venue.tiers=[{from_usd=5,factor=1.0},{from_usd=9,factor=2.0}]"], "venue", ["start with `from_usd = 0`"],
    ),
    "tiers out of order": (
        ["venue.tiers=[{from_usd=0,factor=2.0},{from_usd=9,factor=1.0}]"], "venue", ["`tiers` must rise"],
    ),
    "one tier": (["venue.tiers=[{from_usd=0,factor=2.0}]"], "venue.tiers", ["at least 2 items"]),
    "caps out of order": (
        ["venue.open_interest_add_on.lower_usd=9", "venue.open_interest_add_on.upper_usd=8"],
        "venue.open_interest_add_on", ["`lower_usd` is 9 and `upper_usd` 8", "the first to be smaller"],
    ),
    "fraction without one": (["venue.close.rule=fraction"], "venue.close", ["that rule needs it"]),
    "target of another rule": ([*FRACTION, "venue.close.target_health=2.0"], "venue.close", ["belongs to rule", "to-target"]),
    "cap of the unlimited": (
        ["venue.close_cap.most_usd=1e6", "venue.close_cap.window_s=60"], "venue", ["`close_cap` limits keepers"],
    ),
    "no such rule": (["venue.close.rule=half"], "venue.close.rule", ["'fraction', 'to-target' or 'to-buffer'", "found 'half'"]),
    "everything at once": ([*FRACTION, "venue.close.fraction=1.0"], "venue.close.fraction", ["less than 1", "found 1.0"]),
    "parts without re-check": ([*FRACTION, "venue.recheck=false"], "venue", ["needs `recheck = true`"]),
    "parts and bonus": ([*FRACTION, *BONUS], "venue", ["a `close` in parts cannot be combined with `incentive.bonus`"]),
    "bonus to nowhere": (["venue.incentive.bonus.to_health=0.5"], "venue.incentive.bonus", ["one of `highest_bps`"]),
    "bonus from both ends": (
        [*BONUS, "venue.incentive.bonus.highest_bps=300"], "venue.incentive.bonus", ["one of `highest_bps`", "just one"],
    ),
    "bonus that rises twice": (
        [*BONUS, "venue.incentive.bonus.rise_per_health=1"], "venue.incentive.bonus", ["one of `to_health`", "just one"],
    ),
    "bonus backwards": (
        [*BONUS, "venue.incentive.bonus.from_health=0.4"], "venue.incentive.bonus", ["is 0.5 and `from_health` 0.4"],
    ),
    "bonus from all of it": (["venue.incentive.bonus.lowest_part=1"], "venue.incentive.bonus.lowest_part", ["less than 1"]),
    "debt without end": (
        ["venue.incentive.bonus={lowest_part = 0, to_health = 0, health = 'lending'}"],
        "venue.incentive.bonus", ["which no debt has"],
    ),
    "parts and calls": (
        [*FRACTION, "venue.margin_calls.warning_health=2.0", "venue.margin_calls.top_up_share=0.5"],
        "venue", ["cannot be combined with `margin_calls`"],
    ),
    "warned too late": (
        ["venue.margin_calls.warning_health=0.9", "venue.margin_calls.top_up_share=0.5"],
        "venue.margin_calls.warning_health", ["greater than 1", "found 0.9"],
    ),
    "auction of the unlimited": (
        [*AUCTION, "venue.keepers=unlimited"], "venue", ["needs `recheck = false`", 'it needs keepers = "for-profit"'],
    ),
    "auction and parts": ([*AUCTION, *FRACTION], "venue", ["cannot be combined with `close`"]),
    "auction and takeover": ([*AUCTION, "venue.incentive.fill=oracle"], "venue", ["only `gas_volatility_exponent`"]),
    "line of stairs": ([*AUCTION, "venue.auction.curve=line"], "venue.auction", ['curve = "line" needs `zero_after_s`']),
    "offers of nothing": (
        ["venue.auction.curve=line", "venue.auction.start_bps=-500", "venue.auction.zero_after_s=60",
         "venue.auction.reset_after_s=60"], "venue.auction", ["an offer at no price"],
    ),
    "offers that last": (
        [*AUCTION, "venue.recheck=false", "venue.keepers=for-profit", "venue.auction.reset_after_s=1e7"],
        "venue.auction.reset_after_s", ["more than 240 steps of 7200 s", "or offers shorter"],
    ),
    "limit without order": (["venue.incentive.limit_bps=5"], "venue.incentive", ['belongs to fill = "limit"']),
    "floor above cap": (
        ["venue.incentive.keeper_floor_usd=5", "venue.incentive.keeper_cap_usd=4"], "venue.incentive", ["is 5 and", "4; expected"],
    ),
    "worth of the unlimited": (["venue.incentive.fill=oracle"], "venue", ['needs keepers = "for-profit"']),
    "unknown layer": (["venue.backstop.vaults_usd=5"], "venue.backstop.vaults_usd", ["did you mean `vault_usd`"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_what_to_do(tmp_path: Path, name: str) -> None:
    small_job.assert_told(tmp_path, *MISTAKES[name])


def test_dollars_and_seconds_become_shares_and_years(tmp_path: Path) -> None:
    overrides = [
        "venue.backstop.fund_cap_usd=150e3", "venue.backstop.fund_cap_window_s=3600", "venue.backstop.vault_usd=3e6",
        "venue.backstop.withdrawals_stop_s=86_400",
        "venue.keepers=for-profit", "venue.incentive.fill=limit", "venue.incentive.limit_bps=50",
        "venue.incentive.keeper_floor_usd=5", "venue.trigger.extra_bps=20", "venue.margin_calls.warning_health=1.5",
        "venue.margin_calls.top_up_share=0.5", "venue.margin_calls.response_s=14400",
    ]  # fmt: skip
    venue = assemble(load_job(small_job.write(tmp_path), overrides)).scenario.venue
    assert venue.backstop.fund_cap.most == pytest.approx(1e-3)
    assert venue.backstop.fund_cap.refill == pytest.approx(1e-3 * SECONDS_PER_YEAR / 3600)
    assert venue.backstop.vault == pytest.approx(0.02)
    assert not venue.backstop.deleverages
    assert venue.backstop.gate == pytest.approx(1 / 365)
    assert isinstance(venue.incentive.fill, LimitOrder)
    assert venue.incentive.fill.limit == pytest.approx(0.005)
    assert venue.incentive.reward.floor == pytest.approx(5 / 50_000)
    assert venue.trigger.extra == pytest.approx(0.002)
    assert int(venue.calls.response.steps) == 2
    assert venue.schedule is None


def test_an_auction_is_asked_step_by_step_until_it_starts_anew(tmp_path: Path) -> None:
    """Maker's ETH-A: 110 % of the price, 1 % less every 90 s, anew after two hours or below 45 % of the start."""
    path = small_job.write(tmp_path)
    others = ["venue.recheck=false", "venue.keepers=for-profit", "venue.auction.most_usd=1.5e6", "simulation.step_s=60"]
    # Who buys at auction lives on what is off the price, and not on a part of the penalty.
    assert warnings_of(load_job(path, [*AUCTION, *others, "venue.gas_usd=1000"]).job) == []
    auction = assemble(load_job(path, [*AUCTION, *others])).scenario.venue.auction
    assert auction.most == pytest.approx(0.01)
    # At 7200 s it is not over yet, at 7260 s it is.
    assert auction.longest == 121
    # Offers of half an hour share a place, so that there are four; what is asked falls at the same rate whenever they started.
    assert (auction.width, auction.places) == (31, 4)
    np.testing.assert_allclose(np.exp(auction.multiples[:4]), 1.1 * 0.99 ** np.array([0, 0, 1, 2]), rtol=1e-6)
    # 0.99 ** 69 = 0.4998 is what is asked from 6210 s on.
    early = assemble(load_job(path, [*AUCTION, *others, "venue.auction.reset_below=0.5"])).scenario.venue.auction
    assert early.longest == 104
    line = [
        f"venue.auction.{key}" for key in ("curve=line", "start_bps=-500", "zero_after_s=7200", "reset_after_s=3600")
    ]
    falling = assemble(load_job(path, [*line, *others])).scenario.venue.auction
    np.testing.assert_allclose(np.exp(falling.multiples), 0.95 * (1 - np.arange(61) / 120), rtol=1e-6)


def test_a_cooldown_counts_from_the_step_after_the_close(tmp_path: Path) -> None:
    path = small_job.write(tmp_path)
    for seconds, rest in ((0, None), (7200, None), (14_400, 1), (21_600, 2)):
        close = assemble(load_job(path, [*FRACTION, f"venue.close.cooldown_s={seconds}"])).scenario.venue.close
        assert close.fraction == pytest.approx(0.5)
        assert (None if close.cooldown is None else int(close.cooldown.steps)) == rest


def test_a_buffer_its_ramp_and_dust_are_in_the_units_of_the_simulation(tmp_path: Path) -> None:
    keys = ("rule=to-buffer", "buffer_bps=200", "initial_part=0.25", "ramp_s=21_600", "dust_usd=5e3")
    path = small_job.write(tmp_path)
    venue = assemble(load_job(path, [*(f"venue.close.{key}" for key in keys), "venue.batch_s=14_400"])).scenario.venue
    assert venue.close.buffer == pytest.approx(0.02)
    assert (float(venue.close.initial), float(venue.close.ramp)) == pytest.approx((0.25, 3.0))
    np.testing.assert_allclose(venue.close.dust.least, [5_000 / 50_000], rtol=1e-6)
    assert int(venue.batch) == 2
    at_once = assemble(load_job(path, [f"venue.close.{key}" for key in keys[:2]])).scenario.venue.close
    assert (float(at_once.initial), float(at_once.ramp), at_once.dust) == (1.0, np.inf, None)


def test_positions_of_a_table_are_split_by_tier(tmp_path: Path) -> None:
    rows = ["side,notional_usd,collateral_usd", "long,500000,50000", "long,2000000,300000", "short,4000000,500000"]
    (tmp_path / "p.csv").write_text("\n".join(rows), encoding="utf-8")
    text = small_job.TEXT[: small_job.TEXT.index("[book]")] + '[book]\npositions = "p.csv"\nresolution = 4\n\n'
    text += small_job.TEXT[small_job.TEXT.index("[venue]") :]
    scenario = assemble(load_job(small_job.write(tmp_path, text), [TIERS])).scenario
    np.testing.assert_allclose(scenario.book.side, [1, 1, -1])
    np.testing.assert_allclose(scenario.book.weight, np.array([0.5, 2, 4]) / 6.5, rtol=1e-6)
    # 1 on the first million and 2 on what is above it.
    np.testing.assert_allclose(scenario.venue.schedule.factor, [1, 1.5, 1.75], rtol=1e-6)
    margin = 2 * (0.02 + 1.0 * np.sqrt(1 / 8760))
    np.testing.assert_allclose(scenario.book.reference_margin[:, 0], margin * np.array([1, 1.5, 1.75]), rtol=1e-5)


def test_metrics_tell_of_the_layers_that_a_venue_has(tmp_path: Path) -> None:
    assembled = assemble(load_job(small_job.write(tmp_path), ["venue.backstop.auto_deleveraging=true"]))
    sample = simulate(assembled.scenario, assembled.incumbent, seed=1, paths=200)
    found = set(metrics_of(sample, 0.99))
    assert {"adl_rate", "adl_loss"} <= found
    assert "vault_draw" not in found
