"""What a fit finds in round logs: the parameters of made feeds within its own errors, and Chainlink's in recorded logs."""

from pathlib import Path

import numpy as np
import pytest
from made_world import made_log
from scipy.stats import ks_2samp
from statistical import SIGMAS, assert_close

from calibrate.data.rounds import Rounds, read_rounds
from calibrate.errors import UserError
from calibrate.fits.blocks import standard_errors
from calibrate.fits.feed import Feed, simulate_rounds
from calibrate.fits.feed_fit import fit_oracle
from calibrate.fits.oracle import (
    QUIET,
    beats_of,
    block_time,
    deviation_of,
    gaps,
    heartbeat_of,
    lateness_of,
    look_interval,
    moves,
)
from calibrate.fits.oracle_goodness import Gaps, gaps_made, recorded_storm, replayed_storm
from calibrate.fits.result import WorldFit

CLOCK = Feed(deviation=0.005, heartbeat_s=3600.0, restarts=False, block_s=12.0, look_s=30.0)
RESTARTS = Feed(deviation=0.0025, heartbeat_s=1200.0, restarts=True, block_s=2.0, look_s=10.0)
START_2023_08_17 = 1_692_306_000.0  # 21:00 UTC


def mean_inclusion(delay_s: float, block_s: float) -> float:
    """Mean of an exponential delay that ends with a block: blocks until then are geometric."""
    return block_s / -np.expm1(-block_s / delay_s)


def known(fit: WorldFit, name: str) -> tuple[float, float]:
    figure = fit.figure(name)
    assert figure.standard_error is not None
    return figure.value, figure.standard_error


# --- recovery -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2])
def of_clock(request: pytest.FixtureRequest) -> WorldFit:
    rounds, _ = made_log(CLOCK, days=150, seed=request.param, delay_s=30.0)
    return fit_oracle(rounds)


def test_a_clock_is_recovered_within_its_errors(of_clock: WorldFit) -> None:
    """Five standard errors each; sees a deviation off by 0.3 bps, a heartbeat off by a second and a delay off by 8 s. The clock
    keeps step with the blocks, so that the earliest report hides no part of one, and that part of the error is taken off."""
    deviation, error = known(of_clock, "deviation_bps")
    assert_close(deviation, error, 50.0, resolution=0.3)
    heartbeat, error = known(of_clock, "heartbeat_s")
    assert_close(heartbeat, error, 3600.0, resolution=1.0)
    delay, error = known(of_clock, "delay_s")
    assert_close(delay, np.sqrt(error**2 - 12**2 / 12), mean_inclusion(30.0, 12.0), resolution=8.0)
    exponent, error = known(of_clock, "delay_volatility_exponent")
    assert_close(exponent, error, 0.0, resolution=0.6)
    assert known(of_clock, "clock_share")[0] > 0.9
    assert of_clock.figure("block_s").value == 12.0


def test_the_section_says_what_was_found(of_clock: WorldFit) -> None:
    table = of_clock.table
    assert table["kind"] == "push"
    assert table["heartbeat_restarts"] is False
    assert table["deviation_bps"] == pytest.approx(50, abs=0.2)
    assert "delay_volatility_exponent" not in table, "a growth that is not seen is left out"
    assert any("not seen to grow" in note for note in of_clock.notes)


def test_a_heartbeat_that_restarts_is_told_from_a_clock() -> None:
    rounds, delays = made_log(RESTARTS, days=60, seed=3, delay_s=15.0)
    fit = fit_oracle(rounds)
    assert fit.table["heartbeat_restarts"] is True
    assert known(fit, "clock_share")[0] < 0.1
    deviation, error = known(fit, "deviation_bps")
    assert_close(deviation, error, 25.0, resolution=0.2)
    # From inclusion to the next look after the heartbeat, on average half a look, and to inclusion again.
    expected = 1200 + 0.5 * (10 - 2) + mean_inclusion(float(delays.mean()), 2.0)
    heartbeat, error = known(fit, "heartbeat_s")
    assert_close(heartbeat, error, expected, resolution=6.0)


@pytest.mark.parametrize("exponent", [0.6, 0.0])
def test_a_delay_that_grows_in_a_storm_is_recovered(exponent: float) -> None:
    """Five standard errors; sees an exponent off by 0.5. With a block every second what the earliest round hides is small."""
    feed = CLOCK._replace(block_s=1.0)
    rounds, _ = made_log(feed, days=200, seed=4, delay_s=40.0, exponent=exponent)
    quiet = moves(rounds) < QUIET * 0.005
    rng = np.random.default_rng(4)
    late = lateness_of(
        rounds, beats_of(rounds, quiet, heartbeat_of(gaps(rounds), quiet, rounds.seconds, rng)), 1.0, rng
    )
    assert_close(late.exponent, late.exponent_error, exponent, resolution=0.5)


def test_a_growth_that_is_seen_goes_into_the_section() -> None:
    rounds, _ = made_log(CLOCK, days=150, seed=5, delay_s=40.0, exponent=0.8)
    table = fit_oracle(rounds).table
    assert 0.3 < table["delay_volatility_exponent"] < 1.2
    assert table["longest_delay_s"] > table["delay_s"] > 0


def test_reported_errors_are_those_of_many_logs() -> None:
    """Twelve made logs: squared misses over squared errors average to about one. Chi-squared of 12 leaves 0.1 to 3.6 once in ten
    thousand times; sees errors that are wrong by a factor of three. The delay is left out: its error covers a block that these
    logs, whose clock keeps step with blocks, do not hide."""
    misses = []
    for seed in range(12):
        rounds, _ = made_log(CLOCK, days=60, seed=100 + seed, delay_s=30.0)
        deviation, deviation_error = deviation_of(moves(rounds))
        quiet = moves(rounds) < QUIET * deviation
        beat = heartbeat_of(gaps(rounds), quiet, rounds.seconds, np.random.default_rng(seed))
        misses.append([(deviation - 0.005) / deviation_error, (beat.seconds - 3600) / beat.standard_error])
    ratio = np.mean(np.square(misses), axis=0)
    assert (ratio > 0.1).all()
    assert (ratio < 3.6).all()


def test_a_constant_of_the_data_is_not_a_miss() -> None:
    assert standard_errors(np.ones((5, 2))).tolist() == [0.0, 0.0]


# --- parts ----------------------------------------------------------------------------------------------------------------


def test_a_feed_reports_by_hand() -> None:
    """Looks every 10 s, blocks every 5 s, a report takes 7 s: it is included with the second block after the look."""
    feed = Feed(deviation=0.01, heartbeat_s=60.0, restarts=False, block_s=5.0, look_s=10.0)
    prices = np.log([100, 100.5, 101.2, 101.3, 103, 103, 103, 103.2, 103.2, 103.2, 103.2, 103.2, 103.2, 103.2])
    made = simulate_rounds(feed, prices, np.full(14, 7.0), np.random.default_rng(0))
    assert made.seconds.tolist() == [0, 30, 50, 70, 130]
    np.testing.assert_allclose(np.exp(made.log_answer), [100, 101.2, 103, 103, 103.2])
    assert made.on_deviation.tolist() == [False, True, True, False, False]
    restarting = simulate_rounds(feed._replace(restarts=True), prices, np.full(14, 7.0), np.random.default_rng(0))
    assert restarting.seconds.tolist() == [0, 30, 50, 120], "50 + 60 is looked at at 110"


def test_a_report_under_way_keeps_the_feed_from_looking() -> None:
    feed = Feed(deviation=0.01, heartbeat_s=1e6, restarts=False, block_s=1.0, look_s=10.0)
    made = simulate_rounds(feed, np.log(100 * 1.02 ** np.arange(8)), np.full(8, 25.0), np.random.default_rng(0))
    assert made.seconds.tolist() == [0, 35, 65, 95]


def test_without_an_edge_in_the_moves_there_is_no_threshold() -> None:
    sizes = np.random.default_rng(1).exponential(0.004, 5000)
    with pytest.raises(UserError, match="no threshold"):
        deviation_of(sizes)


def test_an_edge_is_found_among_rounds_of_other_reasons() -> None:
    """Exponential spacing: the error is that of the smallest of the moves above. Sees an edge off by 0.3 %."""
    draw = np.random.default_rng(2)
    sizes = np.concatenate([draw.exponential(0.0015, 4000), 0.003 + draw.exponential(0.0004, 1500)])
    found, error = deviation_of(sizes)
    assert_close(found, error, 0.003, resolution=3e-5)


def test_the_rhythm_of_looks_shows_in_short_gaps() -> None:
    draw = np.random.default_rng(3)
    gap_s = 12 * np.ceil((30 * draw.integers(1, 12, 400) + draw.uniform(0, 12, 400)) / 12)
    assert look_interval(gap_s, np.ones(400, bool), 12.0) == 30.0
    assert look_interval(draw.integers(10, 600, 400).astype(float), np.ones(400, bool), 12.0) == 12.0, "no rhythm"


def test_block_time_divides_every_gap() -> None:
    assert block_time(np.array([0.0, 24, 60, 96])) == 12
    assert block_time(np.array([0.0, 24, 61, 96])) == 1


# --- recorded logs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eth(market_data: Path) -> Rounds:
    return read_rounds(market_data / "chainlink" / "ETHUSD.csv")


@pytest.fixture(scope="module")
def eth_fit(eth: Rounds) -> WorldFit:
    return fit_oracle(eth, storm_start=START_2023_08_17)


def test_chainlinks_deviation_and_heartbeat_are_those_that_are_published(eth_fit: WorldFit) -> None:
    """0.5 % and one hour (references of the feed); the heartbeat is a clock."""
    assert_close(*known(eth_fit, "deviation_bps"), 50.0, resolution=0.05)
    assert_close(*known(eth_fit, "heartbeat_s"), 3600.0, resolution=0.1)
    assert eth_fit.table["heartbeat_restarts"] is False
    assert known(eth_fit, "clock_share")[0] > 0.9
    assert eth_fit.figure("block_s").value == 12
    assert 20 < eth_fit.table["delay_s"] < 45


def distance(fit: WorldFit) -> float:
    return next(row.model for row in fit.goodness if "Kolmogorov" in row.what)


def test_the_fit_reproduces_the_gaps_between_chainlinks_rounds(eth_fit: WorldFit) -> None:
    """The distance is 0.023; chance alone, between two samples of 11,000 gaps, makes 0.02 once in a hundred times."""
    assert distance(eth_fit) < 0.035


def made_by_another_feed(eth: Rounds, **wrong: float) -> Gaps:
    sizes = moves(eth)
    quiet = sizes < QUIET * 0.005
    rng = np.random.default_rng(5)
    beats = beats_of(eth, quiet, heartbeat_of(gaps(eth), quiet, eth.seconds, rng))
    feed = CLOCK._replace(repeat_share=0.09, repeat_after_s=300.0, **wrong)
    return gaps_made(eth, feed, beats.late_s + 12, int((sizes >= 0.005).sum()), rng)


@pytest.mark.parametrize("wrong", [{"restarts": True, "heartbeat_s": 3540.0}, {"heartbeat_s": 3000.0}])
def test_gaps_of_another_heartbeat_are_told_from_chainlinks(eth: Rounds, wrong: dict[str, float]) -> None:
    """The test of the test. Of feeds that restart, this heartbeat comes nearest: inclusion and the next look make it an hour."""
    assert made_by_another_feed(eth, **wrong).distance > 0.05


def test_another_deviation_would_need_another_volatility(eth: Rounds) -> None:
    """Gaps alone cannot tell deviation and volatility apart; that of the log itself can."""
    assert 0.85 < made_by_another_feed(eth).volatility_scale < 1.1
    assert made_by_another_feed(eth, deviation=0.004).volatility_scale < 0.8


def test_the_lag_of_2023_08_17_is_reproduced(eth: Rounds) -> None:
    """From 1,705 to 1,558 in seven minutes: 60 s passed between rounds that the price outran. The replayed hour has as many
    rounds, and as long a lag, within twice the spread of its replays; a feed that is two minutes late is told from it."""
    recorded = recorded_storm(eth, START_2023_08_17, 0.005)
    assert recorded.outrun_gap_s == 60.0
    assert recorded.largest_step_bps == pytest.approx(328.5, abs=0.1)
    late_s = 12.0 + 12 * np.random.default_rng(6).choice([0, 1, 2, 4, 5], 500, p=[0.25, 0.4, 0.25, 0.05, 0.05])
    mean, spread = replayed_storm(eth, START_2023_08_17, CLOCK, late_s, np.random.default_rng(7))
    assert abs(mean.outrun_gap_s - recorded.outrun_gap_s) < 2 * spread.outrun_gap_s < 60
    assert abs(mean.rounds - recorded.rounds) < 2 * spread.rounds
    slow, spread = replayed_storm(eth, START_2023_08_17, CLOCK, late_s + 120, np.random.default_rng(7))
    assert slow.outrun_gap_s - recorded.outrun_gap_s > 2 * spread.outrun_gap_s


def test_two_feeds_of_one_kind_are_found_alike(eth_fit: WorldFit, market_data: Path) -> None:
    btc = fit_oracle(read_rounds(market_data / "chainlink" / "BTCUSD.csv"))
    assert distance(btc) < 0.04
    for name in ("deviation_bps", "heartbeat_s", "delay_s"):
        (a, a_error), (b, b_error) = known(eth_fit, name), known(btc, name)
        assert abs(a - b) < SIGMAS * np.hypot(a_error, b_error), name


def test_the_curves_of_the_figure_are_the_distance_apart(eth_fit: WorldFit) -> None:
    gap_curve = eth_fit.curves["gaps"]
    assert np.abs(gap_curve["recorded"] - gap_curve["made"]).max() == pytest.approx(distance(eth_fit), abs=0.005)


def test_the_distance_is_that_of_kolmogorov_and_smirnov(eth: Rounds) -> None:
    made = gaps_made(eth, CLOCK, np.full(500, 24.0), 3000, np.random.default_rng(8))
    assert made.distance == ks_2samp(np.diff(eth.seconds), made.made_s).statistic
