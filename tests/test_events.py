"""Events, the oracle's way from sources to reports, guards and mark prices: against accounts followed one by one, by hand, and
against difference quotients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force_pipe import Occurrence, SourceRule, median
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax
from statistical import assert_mean
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, MINUTE, Case, assert_followed, of_rules

from calibrate.delay import delay_of
from calibrate.events import Happening, begins_of, happening
from calibrate.gradient import check_gradients
from calibrate.oracle import ExactOracle, Oracle, OracleView, StepOfPrice
from calibrate.oracle_pipe import Band, Exponential, OraclePipe, TimeWeighted
from calibrate.shocks import path_ids, seed_words
from calibrate.simulate import Outcome, simulate
from calibrate.sources import (
    Lag,
    Noise,
    Outages,
    Sources,
    SourceShocks,
    weighted_mean,
    weighted_median,
    weighted_quantile,
)
from calibrate.venue.guards import Guards, OwnAverage
from calibrate.venue.trigger import BandEnd, Trigger

BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 150)
SOURCES = (
    SourceRule(3.0, noise=0.003, kept=0.9, goes=0.01, stays=0.8),
    SourceRule(2.0, noise=0.002, kept=0.0, goes=0.05, stays=0.7),
    SourceRule(2.0, noise=0.001, kept=0.5, goes=0.02, stays=0.9, lag=5),
    SourceRule(1.0, noise=0.01, kept=0.95, goes=0.1, stays=0.9),
)
SLOW = ("a continuous oracle, frozen and displaced", "sources, their mean, an exponential average, a clock")
VARIANTS = {
    "every event, some at random times": {
        "events": (
            Occurrence("keeper_outage", begin=20, steps=30),
            Occurrence("oracle_freeze", steps=25, places=126),
            Occurrence("depth_collapse", size=0.2, begin=45, steps=40),
            Occurrence("gas_spike", size=8.0, steps=50, places=101),
            Occurrence("depeg", size=0.03, steps=30, places=121, recovery=20),
            Occurrence("manipulation", size=-0.02, begin=100, steps=10),
        ),
        "stale_after_steps": 12,
        "widest_gap": 0.01,
    },
    "sources, their median, an average, a clamp, stale prices replaced, a mark price": {
        "oracle": "exact",
        "sources": SOURCES,
        "quorum": 2,
        "twap_steps": 7,
        "clamp": 0.004,
        "stale_after_steps": 6,
        "stale_falls_back": True,
        "mark": ("oracle-and-basis", "market", "sources"),
        "mark_weight": 0.4,
        "events": (
            Occurrence("oracle_freeze", begin=15, steps=45),
            Occurrence("manipulation", size=-0.1, begin=80, steps=25, source=0),
        ),
    },
    "a band that widens with volatility and with what late sources disagree, a breaker": {
        "sources": SOURCES,
        "quorum": 2,
        "band": 0.002,
        "band_exponent": 1.5,
        "band_of_sources": 0.8,
        "band_end": "worse",
        "widest_from_average": 0.012,
        "average_weight": 0.15,
        "stale_after_steps": 6,
        "stale_falls_back": True,
        "events": (Occurrence("oracle_freeze", begin=60, steps=25),),
    },
    "sources, their mean, an exponential average, a clock": {
        "sources": SOURCES,
        "band_of_sources": 1.2,
        "band_end": "better",
        "by_mean": True,
        "ema_weight": 0.3,
        "clamp": 0.006,
        "heartbeat_restarts": False,
        "heartbeat_years": 30.37 * MINUTE,
        "oracle_delay_exponent": 0.8,
        "longest_oracle_delay_steps": 6,
        "stale_after_steps": 14,
        "events": (
            Occurrence("manipulation", size=-0.05, steps=25, places=126, source=2),
            Occurrence("oracle_freeze", steps=45, places=106),
        ),
    },
    "a continuous oracle, frozen and displaced": {
        "oracle": "continuous",
        "oracle_delay_steps": 0,
        "stale_after_steps": 10,
        "events": (
            Occurrence("oracle_freeze", begin=30, steps=30),
            Occurrence("manipulation", size=0.02, begin=80, steps=10),
            Occurrence("depeg", size=0.03, begin=110, steps=300),
        ),
    },
}
SAME = ("bad_debt", "open_deficit", "insolvent_share", "liquidated", "liquidated_share", "penalty", "slippage", "fund_draw",
        "false_liquidation", "returned", "collateral_closed", "margin_peak_to_trough")  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in VARIANTS]
)
def test_accounts_fare_as_those_followed_one_by_one_do(name: str) -> None:
    case = BASE.but(**VARIANTS[name])
    v = simulate(case.scenario(), case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:4])
    on_worst = {field: v[field][worst] for field in SAME}
    number = (100, 1000) if name in SLOW else (50, 500)
    accounts = assert_followed(case, on_worst, worst, dict(zip(SAME, SAME, strict=True)), accounts=number, within=2e-2)
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])


# --- events ---------------------------------------------------------------------------------------------------------------


def felt(event: Occurrence, steps: int) -> list[Happening]:
    """What an event at a fixed time does to each of the first steps."""
    made = (of_rules(event, lambda value: jnp.asarray(value, jnp.float32)),)
    return [happening(made, begins_of(made, seed_words(1), path_ids(np.arange(1))), jnp.int32(i)) for i in range(steps)]


def test_a_window_has_its_steps_and_no_others() -> None:
    away = [bool(now.away) for now in felt(Occurrence("keeper_outage", begin=2, steps=3), 7)]
    assert away == [False, False, True, True, True, False, False]


def test_a_peg_breaks_at_once_and_comes_back_evenly() -> None:
    jumps = [float(now.jump) for now in felt(Occurrence("depeg", size=0.4, begin=1, steps=2, recovery=4), 8)]
    np.testing.assert_allclose(jumps, [0, -0.4, 0, 0.1, 0.1, 0.1, 0.1, 0], atol=1e-7)
    at_once = [float(now.jump) for now in felt(Occurrence("depeg", size=0.4, begin=1, steps=2), 5)]
    np.testing.assert_allclose(at_once, [0, -0.4, 0, 0.4, 0], atol=1e-7)


def test_events_of_one_kind_add_up() -> None:
    f = lambda value: jnp.asarray(value, jnp.float32)  # noqa: E731
    events = (Occurrence("depth_collapse", size=0.5, begin=0, steps=2), Occurrence("depth_collapse", size=0.2, begin=1, steps=2),
              Occurrence("keeper_outage", begin=0, steps=1), Occurrence("keeper_outage", begin=2, steps=1))  # fmt: skip
    made = tuple(of_rules(event, f) for event in events)
    begins = begins_of(made, seed_words(1), path_ids(np.arange(1)))
    now = [happening(made, begins, jnp.int32(i)) for i in range(3)]
    np.testing.assert_allclose([float(each.depth) for each in now], [0.5, 0.1, 0.2], rtol=1e-6)
    assert [bool(each.away) for each in now] == [True, False, True]
    assert now[0].gas is now[0].jump is now[0].frozen is None


def test_an_event_without_a_time_is_as_likely_at_any() -> None:
    """Uniform over the places where it fits, and independent of other events; sees an error of 1.5 % of the mean place, a place
    too many or too few, and a correlation of 0.02."""
    events = tuple(
        of_rules(Occurrence("oracle_freeze", steps=10, places=51), lambda value: jnp.asarray(value)) for _ in range(2)
    )
    first, second = (np.asarray(b) for b in begins_of(events, seed_words(4), path_ids(np.arange(400_000))))
    assert_mean(first, 25.0, resolution=0.015 * 25)
    assert_mean((first - 25.0) * (second - 25.0) / np.var(np.arange(51)), 0.0, resolution=0.02)
    assert np.unique(first).tolist() == list(range(51))


# --- sources and averages -------------------------------------------------------------------------------------------------


def test_medians_and_means_by_hand() -> None:
    values = jnp.float32([[1.0], [5.0], [2.0], [3.0]])
    weigh = lambda *weights: jnp.float32(weights)[:, None]  # noqa: E731
    assert weighted_median(values, weigh(1, 1, 1, 1)) == 2.5
    assert weighted_median(values, weigh(1, 1, 1, 0)) == 2.0
    assert weighted_median(values, weigh(3, 2, 2, 1)) == 2.0
    assert weighted_median(values, weigh(4, 2, 1, 1)) == 1.5
    assert weighted_median(values, weigh(0, 9, 0, 0)) == 5.0
    assert weighted_mean(values, weigh(3, 2, 2, 1)) == 2.5


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    pairs=st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), min_size=6, max_size=6),
    out=st.sets(st.integers(0, 5), max_size=5),
)
def test_a_median_is_that_of_the_sorted_list(pairs: list[tuple[int, int]], out: set[int]) -> None:
    """Ties and sources that are out included."""
    there = [(float(value), float(weight)) for k, (value, weight) in enumerate(pairs) if k not in out]
    weights = jnp.float32([[0 if k in out else weight] for k, (_, weight) in enumerate(pairs)])
    found = jax.jit(weighted_median)(jnp.float32([[value] for value, _ in pairs]), weights)
    assert float(found[0]) == median(there)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(st.integers(-9, 9), min_size=5, max_size=5),
    times=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    part=st.sampled_from((0.25, 0.5, 0.75)),
)
def test_a_quantile_is_that_of_the_values_repeated_by_their_weights(
    values: list[int], times: list[int], part: float
) -> None:
    """NumPy's own, of the definition that takes the middle of two (Hyndman and Fan 1996, definition 2)."""
    column = lambda numbers: jnp.asarray(numbers, jnp.float32)[:, None]  # noqa: E731
    expected = np.quantile(np.repeat(values, times), part, method="averaged_inverted_cdf")
    assert float(weighted_quantile(column(values), column(times), part)[0]) == expected


def test_less_than_half_of_the_weight_moves_a_median_no_further_than_the_others_disagree() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 0.01, (5, 1000)).astype(np.float32)
    attacked = values.copy()
    attacked[1] += 5.0
    weights = jnp.broadcast_to(jnp.float32([2, 3, 1, 1, 1])[:, None], values.shape)
    moved = np.asarray(weighted_median(jnp.asarray(attacked), weights))
    others = np.delete(values, 1, axis=0)
    assert (moved <= others.max(axis=0)).all()
    assert (np.asarray(weighted_mean(jnp.asarray(attacked), weights)) > 1.0).all(), "which a mean does not do"


def test_noise_and_outages_have_their_laws() -> None:
    """Long after the start. Sees an error of 4 % in the standard deviation, of 0.06 in a correlation, and of 0.025 in the share
    of time out."""
    sources = Sources(
        jnp.float32([1.0, 1.0]),
        Noise(jnp.float32([0.01, 0.01]), jnp.float32([0.6, 0.0])),
        Outages(jnp.float32([0.1, 0.0]), jnp.float32([0.8, 0.0])),
    )
    ids, price = path_ids(np.arange(40_000)), jnp.zeros(40_000)

    @jax.jit
    def follow():
        def step(state, drawn):
            state, _ = sources.step(state, price, jnp.int32(0), drawn, ())
            return state, state

        drawn = sources.shocks(seed_words(2), ids, jnp.arange(24, dtype=jnp.uint32), np.dtype(np.float32))
        return lax.scan(step, sources.start(price), drawn)

    state, course = follow()
    seen = np.asarray(course.noise, np.float64)
    before, last = seen[-2:]
    for k, kept in enumerate((0.6, 0.0)):
        assert_mean(last[k] ** 2 / 0.01**2, 1.0, resolution=0.08)
        assert_mean(last[k] * before[k] / 0.01**2, kept, resolution=0.06)
    assert_mean(last[0] * last[1] / 0.01**2, 0.0, resolution=0.06)
    assert_mean(np.asarray(state.out[0], float), 0.1 / (0.1 + 0.2), resolution=0.025)
    assert not state.out[1].any()


def shown(pipe: Oracle, prices: list[float]) -> list[float]:
    state, views = pipe.start(jnp.zeros(1)), []
    for index, price in enumerate(prices):
        here = jnp.float32([price])
        state, view = pipe.step(
            state, StepOfPrice(here, here, here, jnp.zeros(1), None, None), jnp.int32(index), jnp.float32(1)
        )
        views.append(float(view.log_price[0]))
    return views


def test_without_a_quorum_there_is_no_new_price() -> None:
    """A source is out where its uniform is below one half. The average goes on with the last price."""
    outages = Outages(jnp.float32([0.5, 0.5]), jnp.float32([0.5, 0.5]))
    sources = Sources(jnp.float32([1.0, 1.0]), None, outages, quorum=2)
    pipe = OraclePipe(ExactOracle(delay_of(0)), sources, TimeWeighted(delay_of(2)))
    state, seen, made = pipe.start(jnp.zeros(1)), [], []
    for index, (price, low) in enumerate([(4.0, 0.9), (6.0, 0.1), (8.0, 0.1), (10.0, 0.9)]):
        drawn = SourceShocks(None, jnp.float32([[0.9], [low]]))
        step = StepOfPrice(*[jnp.float32([price])] * 3, jnp.zeros(1), None, None, sources=drawn)
        state, view = pipe.step(state, step, jnp.int32(index), jnp.float32(1))
        seen.append(float(view.log_price[0]))
        made.append(float(view.sources[0]))
    assert made == [4, 4, 4, 10]
    assert seen == [2, 2, 2, 7]


NO_SHOCKS = SourceShocks(None, None)


def looked_at(pipe: OraclePipe, prices: list[float], log_volatility: float = 0.0) -> list[OracleView]:
    """What a pipe whose sources have neither noise nor outages shows after each step."""
    state, views = pipe.start(jnp.zeros(1)), []
    for index, price in enumerate(prices):
        here = [jnp.float32([price])] * 3
        step = StepOfPrice(*here, jnp.zeros(1), None, None, jnp.float32([log_volatility]), sources=NO_SHOCKS)
        state, view = pipe.step(state, step, jnp.int32(index), jnp.float32(1))
        views.append(view)
    return views


def test_a_source_shows_what_the_market_was_some_steps_ago() -> None:
    """Lags of 0, 2 and 3: of three values the median is the one in the middle."""
    sources = Sources(jnp.ones(3), None, None, lag=Lag(jnp.int32([0, 2, 3]), 3))
    views = looked_at(OraclePipe(ExactOracle(delay_of(0)), sources), [1.0, 4, 9, 16, 25, 5])
    assert [float(view.log_price[0]) for view in views] == [0, 0, 1, 4, 9, 9]


def test_a_band_is_as_wide_as_volatility_and_quartiles_make_it() -> None:
    """Lags of 0, 1, 2 and 4 in a market that rises by 1: the median is half-way between the second and the third, the quartiles
    half-way between the outermost two; on the lower side that is further."""
    sources = Sources(jnp.ones(4), None, None, lag=Lag(jnp.int32([0, 1, 2, 4]), 4), quartiles=True)
    band = Band(jnp.float32(0.25), jnp.float32(2.0), jnp.float32(3.0))
    view = looked_at(OraclePipe(ExactOracle(delay_of(0)), sources, band=band), [1.0, 2, 3, 4, 5, 6], np.log(2.0))[-1]
    assert float(view.log_price[0]) == (5 + 4) / 2
    assert float(view.band[0]) == pytest.approx(0.25 * 2**2 + 3 * ((5 + 4) / 2 - (4 + 2) / 2))


def test_without_a_quorum_a_band_stays_as_wide_as_it_was() -> None:
    """Two sources, the second a step late and out where its uniform is below one half: both are half their difference away from
    the price."""
    outages = Outages(jnp.float32([0.5, 0.5]), jnp.float32([0.5, 0.5]))
    sources = Sources(jnp.ones(2), None, outages, quorum=2, lag=Lag(jnp.int32([0, 1]), 1), quartiles=True)
    pipe = OraclePipe(ExactOracle(delay_of(0)), sources, band=Band(jnp.float32(0), jnp.float32(0), jnp.float32(1)))
    state, widths = pipe.start(jnp.zeros(1)), []
    for index, (price, low) in enumerate([(4.0, 0.9), (6.0, 0.1), (8.0, 0.1), (10.0, 0.9)]):
        drawn = SourceShocks(None, jnp.float32([[0.9], [low]]))
        step = StepOfPrice(*[jnp.float32([price])] * 3, jnp.zeros(1), None, None, jnp.zeros(1), sources=drawn)
        state, view = pipe.step(state, step, jnp.int32(index), jnp.float32(1))
        widths.append(float(view.band[0]))
    assert widths == [2, 2, 2, 1]


@pytest.mark.parametrize(("end", "prices"), [("worse", (0.7, 1.3)), ("better", (1.3, 0.7)), (None, (1.0, 1.0))])
def test_accounts_are_judged_at_their_end_of_the_band(end: BandEnd | None, prices: tuple[float, float]) -> None:
    """Longs at the first of the two prices, shorts at the second."""
    one = jnp.ones(1)
    view = Trigger(jnp.float32(0), band_end=end).at_band_end(OracleView(one, one, one, band=0.3 * one))
    assert (float(view.lowest[0]), float(view.highest[0])) == pytest.approx(prices)
    assert float(view.log_price[0]) == 1.0


def test_a_breaker_compares_the_price_with_what_it_was() -> None:
    """Against the average before the price is in it, and as a part of that: half as much again, or half of it."""
    breaker = OwnAverage(jnp.float32(0.5), jnp.float32(0.25))
    seen = jnp.log(jnp.float32([1.501, 1.499, 0.501, 0.499]))
    average, off = breaker.step(jnp.zeros(4), seen)
    assert off.tolist() == [True, False, False, True]
    np.testing.assert_allclose(average, seen / 4)


def test_averages_and_clamps_by_hand() -> None:
    exact = ExactOracle(delay_of(0))
    assert shown(OraclePipe(exact, average=TimeWeighted(delay_of(4))), [4.0, 4, 0, 8, 0, 0]) == [1, 2, 2, 4, 3, 2]
    assert shown(OraclePipe(exact, average=Exponential(jnp.float32(0.5))), [4.0, 4, 0, 8]) == [2, 3, 1.5, 4.75]
    assert shown(ExactOracle(delay_of(0), jnp.float32(1.0)), [0.5, 3, 3, -4]) == [0.5, 1.5, 2.5, 1.5]


def test_stale_is_what_was_reported_too_long_ago() -> None:
    """A freeze of steps 1 to 3 and a delay of one: what is seen was made so many steps ago."""
    state, ages = (oracle := ExactOracle(delay_of(1), None, True)).start(jnp.zeros(1)), []
    for index in range(7):
        price = StepOfPrice(*[jnp.zeros(1)] * 4, None, None, frozen=jnp.asarray(1 <= index <= 3))
        state, view = oracle.step(state, price, jnp.int32(index), jnp.float32(1))
        ages.append(index - int(view.made[0]))
    assert ages == [1, 1, 2, 3, 4, 1, 1]
    guards = Guards(stale_after=jnp.int32(2))
    assert [bool(guards.stale(jnp.int32(9), jnp.int32([9 - age]))[0]) for age in (2, 3)] == [False, True]


# --- derivatives ----------------------------------------------------------------------------------------------------------


def test_derivatives_are_limits_of_difference_quotients() -> None:
    """With every event, sources, an average, a clamp, guards and a mark price at once."""
    changes = VARIANTS["sources, their median, an average, a clamp, stale prices replaced, a mark price"]
    every = (
        Occurrence("keeper_outage", begin=10, steps=5),
        Occurrence("depth_collapse", size=0.3, begin=15, steps=20),
        Occurrence("gas_spike", size=3.0, steps=30, places=31),
        Occurrence("depeg", size=0.03, begin=25, steps=10, recovery=10),
        Occurrence("oracle_freeze", begin=45, steps=8),
        Occurrence("manipulation", size=-0.02, begin=30, steps=25, source=0),
    )
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 60).but(**changes | {"events": every, "widest_gap": 0.02})
    for row in check_gradients(case.scenario(), case.parameters(), ("base_margin",), seed=5, paths=256, bump=1e-7):
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
        if row.metric in ("bad_debt", "liquidated"):
            assert row.pathwise, row
