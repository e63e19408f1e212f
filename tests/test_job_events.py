"""Events, oracle pipes, guards, mark prices and pairs in a job: mistakes are told with their place, units are converted, and what
attacks cost and which liquidations are toxic is right."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from drawn import shocks_of
from scipy.integrate import quad
from small_job import problems_of

from calibrate.assemble import assemble, warnings_of
from calibrate.attack import attack_lines, attacks_of, cost_of
from calibrate.export.lending import lending_policy, margins
from calibrate.job import load_job
from calibrate.oracle import ExactOracle
from calibrate.progress import Silent
from calibrate.simulate import Sample, simulate
from calibrate.toxic import toxic_lines, toxic_note, toxic_of

SOURCES = "oracle.sources=[{name='a',noise_bps=5},{name='b',noise_bps=5}]"
# Overrides that spoil the job, the place that is to be named, and what is to be said there.
MISTAKES: dict[str, tuple[list[str], str, list[str]]] = {
    "no such event": (["events=[{kind='earthquake'}]"], "events.0.kind", ["'keeper_outage', 'oracle_freeze'", "'earthquake'"]),
    "no size": (["events=[{kind='depeg'}]"], "events.0", ["`depeg` needs `fall_bps`"]),
    "size of another kind": (
        ["events=[{kind='gas_spike',gas_factor=2,depth_factor=0.5}]"], "events.0",
        ['`depth_factor` belongs to kind = "depth_collapse", not to "gas_spike"; remove it'],
    ),
    "displaced by nothing": (["events=[{kind='manipulation',displacement_bps=0}]"], "events.0", ["displaces nothing"]),
    "more than everything": (
        ["events=[{kind='depeg',fall_bps=10_000}]"], "events.0.fall_bps", ["less than 10000", "found 10000"],
    ),
    "after the horizon": (
        ["events=[{kind='oracle_freeze',from_hours=24}]"], "events.0.from_hours", ["is 24", "ends after 24 hours"],
    ),
    "longer than the horizon": (
        ["events=[{kind='oracle_freeze',duration_hours=25}]"], "events.0.duration_hours", ["has 24 hours", "give `from_hours`"],
    ),
    "shorter than a step": (
        ["events=[{kind='oracle_freeze',duration_hours=0.5}]"], "events.0.duration_hours", ["half a step of 7200 s", "longer"],
    ),
    "source of no sources": (
        ["events=[{kind='manipulation',displacement_bps=-5,source='a'}]"], "events.0.source", ["found 'a'", "has no `sources`"],
    ),
    "no such source": (
        [SOURCES, "oracle.aggregate=median", "events=[{kind='manipulation',displacement_bps=-5,source='c'}]"],
        "events.0.source", ["found 'c'; expected one of a, b"],
    ),
    "gas of the unlimited": (["events=[{kind='gas_spike',gas_factor=2}]"], "events.0", ['no effect on keepers = "unlimited"']),
    "unknown key of an event": (["events=[{kind='depeg',fall_bps=5,hours=2}]"], "events.0.hours", ["unknown key"]),
    "sources without aggregate": ([SOURCES], "oracle", ['need an `aggregate`, such as "median"']),
    "aggregate without sources": (["oracle.aggregate=median"], "oracle", ["about `sources`, and there are none"]),
    "one source": (["oracle.sources=[{name='a'}]", "oracle.aggregate=mean"], "oracle.sources", ["at least 2 items"]),
    "sources of one name": (
        ["oracle.sources=[{name='a'},{name='a'}]", "oracle.aggregate=mean"], "oracle", ["have one name; give each its own"],
    ),
    "weights of a plain median": (
        ["oracle.sources=[{name='a',weight=1},{name='b',weight=2}]", "oracle.aggregate=median"], "oracle",
        ['choose "weighted median"'],
    ),
    "some weights": (
        ["oracle.sources=[{name='a',weight=1},{name='b'}]", "oracle.aggregate=mean"], "oracle", ["only a of the `sources`"],
    ),
    "quorum of more than all": (
        [SOURCES, "oracle.aggregate=mean", "oracle.quorum=3"], "oracle", ["`quorum` is 3 and there are 2 `sources`"],
    ),
    "half an outage": (
        ["oracle.sources=[{name='a',outages_per_day=1},{name='b'}]", "oracle.aggregate=mean"], "oracle.sources.0",
        ["`outage_minutes`, both or neither"],
    ),
    "two averages": (["oracle.twap_minutes=5", "oracle.ema_minutes=5"], "oracle", ["not both"]),
    "pipe of a continuous oracle": (
        ["oracle.kind=continuous", "oracle.twap_minutes=5", "oracle.clamp_bps=5"], "oracle", ["remove `twap_minutes`, `clamp_bps`"],
    ),
    "guards of nothing": (["venue.guards.when_stale=market"], "venue.guards", ["guards nothing; give `stale_after_s`"]),
    "stale without an age": (
        ["venue.guards.when_stale=market", "venue.guards.widest_gap_bps=5"], "venue.guards", ["no meaning without `stale_after_s`"],
    ),
    "breaker without an average": (
        ["venue.guards.widest_from_average_bps=5000"], "venue.guards", ["`average_minutes`, both or neither"],
    ),
    "band that nobody sees": (["oracle.band_bps=5"], "oracle", ["add `band_end` to [venue.trigger]"]),
    "end of no band": (["venue.trigger.band_end=worse"], "venue.trigger.band_end", ["give `oracle.band_bps` (0 for none)"]),
    "end of a market": (
        ["oracle.band_bps=5", "venue.trigger.band_end=worse", "venue.trigger.price=market"], "venue.trigger",
        ['price = "market" has none; remove it'],
    ),
    "no such end": (["oracle.band_bps=5", "venue.trigger.band_end=lower"], "venue.trigger.band_end", ["'worse' or 'better'"]),
    "band of no sources": (["oracle.band_of_sources=2"], "oracle", ["`band_of_sources` is about `sources`"]),
    "band of no width": (["oracle.band_volatility_exponent=1"], "oracle", ["no meaning without `band_bps` above 0"]),
    "late from the future": (
        ["oracle.sources=[{name='a',lag_s=-1},{name='b'}]", "oracle.aggregate=mean"], "oracle.sources.0.lag_s", ["found -1"],
    ),
    "mark of nothing": (["venue.trigger.price=mark"], "venue.trigger", ["`mark_of` belongs to", "that needs it"]),
    "mark of a pair": (
        ["venue.trigger.price=mark", "venue.trigger.mark_of=['market','market']"], "venue.trigger", ["names a price twice"],
    ),
    "basis without a time": (
        ["venue.trigger.price=mark", "venue.trigger.mark_of=['market','oracle-and-basis']"], "venue.trigger",
        ["`mark_basis_s` belongs to", "needs it"],
    ),
    "mark of no sources": (
        ["venue.trigger.price=mark", "venue.trigger.mark_of=['market','sources']"], "venue.trigger.mark_of",
        ["`oracle.sources` is missing"],
    ),
    "replayed pair": (
        ["market.replay=a.csv", "market.debt={volatility=1,correlation=0}"], "market", ["replay candles of the pair itself"],
    ),
    "correlated beyond all": (
        ["market.debt={volatility=1.0,correlation=1.5}"], "market.debt.correlation", ["less than or equal to 1", "found 1.5"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_what_to_do(tmp_path: Path, name: str) -> None:
    small_job.assert_told(tmp_path, *MISTAKES[name])


def test_mistakes_in_the_events_of_a_scenario_are_told_too(tmp_path: Path) -> None:
    scenario = '[[scenarios]]\nname = "depeg"\nevents = [{ kind = "depeg", from_hours = 30 }]\n'
    (problem,) = problems_of(small_job.write(tmp_path, f"{small_job.TEXT}\n{scenario}"))
    assert problem.place.endswith("scenarios.0: events.0")
    assert "needs `fall_bps`" in problem.message


def test_hours_and_basis_points_become_steps_and_logs(tmp_path: Path) -> None:
    events = (
        "events=[{kind='depeg',fall_bps=400,from_hours=4,duration_hours=2,recovery_hours=6},"
        "{kind='manipulation',displacement_bps=-1000,source='b',duration_hours=4},{kind='depth_collapse',depth_factor=0.2}]"
    )
    guards = ["venue.guards.stale_after_s=7200", "venue.guards.widest_gap_bps=500"]
    pipe = ["oracle.sources=[{name='a',weight=3,noise_bps=5},{name='b',weight=1,outages_per_day=2,outage_minutes=60}]",
            "oracle.aggregate='weighted median'", "oracle.twap_minutes=240", "oracle.clamp_bps=30"]  # fmt: skip
    overrides = ["simulation.precision=float64", events, *guards, *pipe]
    scenario = assemble(load_job(small_job.write(tmp_path), overrides)).scenario
    depeg, manipulation, collapse = scenario.events
    assert [int(part) for part in (depeg.when.begin, depeg.when.steps, depeg.recovery)] == [2, 1, 3]
    assert depeg.fall == pytest.approx(-math.log(0.96))
    assert (manipulation.source, manipulation.when.begin, int(manipulation.when.places)) == (1, None, 11)
    assert manipulation.displacement == pytest.approx(math.log(0.9))
    assert [int(part) for part in (collapse.when.steps, collapse.when.places)] == [12, 12]
    sources = scenario.oracle.sources
    np.testing.assert_allclose(sources.noise.spread, [5e-4, 0])
    # Out at the rate 2/24 an hour, back at 1 an hour; a step has two hours.
    share = 1 / 13
    mixed = 1 - math.exp(-2 * 13 / 12)
    np.testing.assert_allclose(sources.outages.goes, [0, share * mixed])
    np.testing.assert_allclose(sources.outages.stays, [0, 1 - (1 - share) * mixed])
    assert int(scenario.oracle.average.window.steps) == 2
    assert scenario.oracle.publication.clamp == pytest.approx(0.003)
    assert scenario.oracle.publication.dated
    assert int(scenario.venue.guards.stale_after) == 1
    assert scenario.venue.guards.widest == pytest.approx(math.log(1.05))


def test_lags_bands_and_averages_become_steps_logs_and_weights(tmp_path: Path) -> None:
    overrides = [
        "simulation.precision=float64", "oracle.sources=[{name='a',lag_s=7_000},{name='b'},{name='c',lag_s=21_600}]",
        "oracle.aggregate=median", "oracle.band_bps=5", "oracle.band_of_sources=2.5", "oracle.band_volatility_exponent=0.5",
        "venue.trigger.band_end=better", "venue.guards.widest_from_average_bps=5_000", "venue.guards.average_minutes=240",
    ]  # fmt: skip
    loaded = load_job(small_job.write(tmp_path), overrides)
    scenario = assemble(loaded).scenario
    sources, band, venue = scenario.oracle.sources, scenario.oracle.band, scenario.venue
    assert sources.lag.steps.tolist() == [1, 0, 3]
    assert sources.quartiles
    assert [float(part) for part in (band.half_width, band.growth, band.of_sources)] == pytest.approx([5e-4, 0.5, 2.5])
    assert venue.trigger.band_end == "better"
    assert venue.guards.own_average.widest == pytest.approx(0.5)
    assert venue.guards.own_average.weight == pytest.approx(1 - math.exp(-0.5))
    assert warnings_of(loaded.job) == ["oracle.sources.0.lag_s is rounded from 7000 s to 1 steps (7200 s)"]


def test_a_band_of_no_width_is_none(tmp_path: Path) -> None:
    loaded = load_job(small_job.write(tmp_path), ["oracle.band_bps=0", "venue.trigger.band_end=worse"])
    assert isinstance(assemble(loaded).scenario.oracle, ExactOracle)


def test_a_scenario_has_events_of_its_own(tmp_path: Path) -> None:
    events = '[[events]]\nkind = "oracle_freeze"\n'
    scenarios = (
        '[[scenarios]]\nname = "calm"\nevents = []\n[[scenarios]]\nname = "deep"\nliquidity = { depth_usd = 9e9 }\n'
    )
    loaded = load_job(small_job.write(tmp_path, f"{small_job.TEXT}\n{events}{scenarios}"))
    assert [[event.kind for event in job.events] for job in loaded.variants.values()] == [[], ["oracle_freeze"]]


def test_nobody_is_closed_while_keepers_are_away(tmp_path: Path) -> None:
    closed = []
    for window in ("from_hours=0", "from_hours=0,duration_hours=22", "from_hours=22"):
        event = f"events=[{{kind='keeper_outage',{window}}}]"
        assembled = assemble(load_job(small_job.write(tmp_path), [event]))
        fields = ("liquidated_share", "open_deficit")
        closed.append(simulate(assembled.scenario, assembled.incumbent, seed=1, paths=1024, fields=fields).values)
    never, late, nearly_always = closed
    assert not never["liquidated_share"].any()
    assert never["open_deficit"].any()
    assert 0 < late["liquidated_share"].mean() < nearly_always["liquidated_share"].mean()


# --- a pair ---------------------------------------------------------------------------------------------------------------


def test_a_pair_moves_as_the_ratio_of_two_correlated_prices(tmp_path: Path) -> None:
    overrides = ["simulation.precision=float64", "market.debt={volatility=0.6,correlation=0.5}"]
    market = assemble(load_job(small_job.write(tmp_path), overrides)).scenario.market
    with jax.enable_x64(True):
        one = jnp.ones(1)
        state, zero = market.usual(one), jnp.zeros(1)
        # sigma^2 = 1 + 0.36 - 2 * 0.5 * 0.6 = 0.76
        assert float(market.variance_rate(state, one[0])[0]) == pytest.approx(0.76)
        after, move = market.step(
            state, shocks_of(market, state, one, zero, zero + 0.5, 0.01), jnp.asarray(0.01), one[0]
        )
        assert float(move.volatility[0]) == pytest.approx(math.sqrt(0.76))
        assert float(after.log_price[0]) == pytest.approx(math.sqrt(0.76) * 0.1 - 0.76 / 2 * 0.01)


def test_a_pair_that_does_not_move_is_refused(tmp_path: Path) -> None:
    loaded = load_job(small_job.write(tmp_path), ["market.debt={volatility=1.0,correlation=1.0}"])
    with pytest.raises(Exception, match="collateral and debt move alike"):
        assemble(loaded)


# --- attacks and toxic liquidations ---------------------------------------------------------------------------------------


def test_an_attack_costs_the_integral_of_impact_and_what_the_market_absorbs(tmp_path: Path) -> None:
    overrides = ["liquidity.crossover=0.1", "liquidity.half_spread_bps=4", "liquidity.fast_share=0.7", "liquidity.slow_share=0.3",
                 "liquidity.fast_recovery_s=1e9", "liquidity.slow_recovery_s=3600", "simulation.step_s=600"]  # fmt: skip
    job = load_job(small_job.write(tmp_path), overrides).job
    steepness = 0.02 / (math.sqrt(1.1) - math.sqrt(0.1))
    impact = lambda v: steepness * (math.sqrt(v / 5e6 + 0.1) - math.sqrt(0.1))  # noqa: E731
    flow = 5e6 * ((0.1 / steepness + math.sqrt(0.1)) ** 2 - 0.1)
    assert impact(flow) == pytest.approx(0.1)
    at_once = cost_of(-0.1, 0.0, job, 5e6)
    assert at_once.traded == pytest.approx(flow)
    assert at_once.most == pytest.approx(quad(impact, 0, flow)[0] + 2 * 4e-4 * flow)
    assert at_once.least == pytest.approx(2 * 4e-4 * flow)
    # The slow part alone fades. What it loses in a step is topped up, three tenths of that in itself.
    held, slow, absorbed = cost_of(-0.1, 0.5, job, 5e6), 0.3 * flow, 0.0
    for _ in range(3):
        lost = slow * (1 - math.exp(-600 / 3600))
        slow, absorbed = slow - lost + 0.3 * lost, absorbed + lost
    assert held.traded == pytest.approx(flow + absorbed, rel=1e-4)
    assert held.least == pytest.approx(0.1 * absorbed + 2 * 4e-4 * (flow + absorbed), rel=1e-4)
    assert held.most - held.least == pytest.approx(quad(impact, 0, flow)[0])


def test_what_an_attack_yields_is_the_difference_that_it_makes(tmp_path: Path) -> None:
    """A fall of 30 % that the oracle alone sees has most accounts closed; penalties then go to keepers by half."""
    event = "events=[{kind='manipulation',displacement_bps=-3000,from_hours=8,duration_hours=4,attacked_depth_usd=2e4}]"
    loaded = load_job(
        small_job.write(tmp_path),
        [event, "simulation.paths=2000", "simulation.optimiser_paths=200", "simulation.sampling=plain"],
    )
    assembled = assemble(loaded)
    (attack,) = attacks_of(loaded.job, assembled, assembled.incumbent, Silent(), seed=1)
    assert attack["duration_hours"] == 4
    assert attack["cost_usd"] > attack["least_cost_usd"] > 0
    more, keepers = attack["liquidated_usd"], attack["keepers_usd"]
    assert more["value"] > 0.2 * 150e6
    # Half of 100 bps of what is closed. Accounts that the attack closes in time pay what they would have lacked later.
    assert 0.005 * more["value"] < keepers["value"] < 0.005 * 150e6
    assert attack["gain_usd"]["value"] == pytest.approx(keepers["value"] + attack["slippage_usd"]["value"])
    first, second = attack_lines([attack])
    assert "all that the oracle sees by -3000 bps for 4 hours" in first
    assert "may pay by that alone" in second


@pytest.mark.parametrize(
    ("threshold", "bonus", "toxic"), [(0.8, 0.05, False), (0.95, 0.05, False), (0.955, 0.05, True)]
)
def test_a_threshold_and_a_bonus_that_take_more_than_there_is_are_told(
    tmp_path: Path, threshold: float, bonus: float, toxic: bool
) -> None:
    """Liquidation helps only while health exceeds LT (1 + b), and it begins at a health of 1."""
    assert toxic == (threshold * (1 + bonus) >= 1)
    policy: dict[str, Any] = lending_policy(margins(threshold - 0.1, threshold, bonus * threshold), 1)
    text = small_job.TEXT[: small_job.TEXT.index("[policy]")] + small_job.TEXT[small_job.TEXT.index("[constraints]") :]
    text += "\n[policy]\n" + "\n".join(f"{key} = {value}" for key, value in policy.items())
    notes = toxic_note(load_job(small_job.write(tmp_path, text)).job)
    assert bool(notes) == toxic
    if toxic:
        assert f"1 / (1 + bonus) = {1 / (1 + bonus):.4g}" in notes[0]


def test_penalties_that_could_not_be_paid_are_counted(tmp_path: Path) -> None:
    job = load_job(small_job.write(tmp_path)).job
    closed = np.tile([1.0, 3.0], 5000)
    sample = Sample({"liquidated": closed, "penalty": 0.009 * closed}, {}, ())
    found = toxic_of(job, sample, 0.01)
    assert found["unpaid_penalty_share"]["value"] == pytest.approx(0.1)
    # Both means are 0.5 % uncertain, and only those.
    assert found["unpaid_penalty_share"]["standard_error"] == pytest.approx(0.9 * math.sqrt(2) * 0.005, rel=1e-3)
    assert "10.0% of the penalties due" in toxic_lines(found)[0]
    assert toxic_lines(toxic_of(job, Sample({"liquidated": closed, "penalty": 0.01 * closed}, {}, ()), 0.01)) == []
