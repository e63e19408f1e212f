"""Calm and crash: how long they last, what a crash does to prices, jumps, depth and the oracle."""

import equinox as eqx
import jax.numpy as jnp
import market_truth as truth
import numpy as np
import pytest
from markets import journey
from statistical import assert_mean
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.delay import delay_of
from calibrate.market.arrival import ConstantArrival
from calibrate.market.constant import ConstantVolatility
from calibrate.market.kou import KouSizes
from calibrate.market.market import Jumps, Market
from calibrate.market.regimes import Regimes
from calibrate.simulate import simulate

DAY = 1 / 365
single = jnp.float32


def regimes(
    *, to_crash: float = 24.0, to_calm: float = 365.0, volatility: float = 4.0, jumps: float = 1.0, depth: float = 1.0,
    at_start: float | None = None,
) -> Regimes:  # fmt: skip
    given = None if at_start is None else single(at_start)
    return Regimes(*(single(x) for x in (to_crash, to_calm, volatility, jumps, depth, 0.0)), given)


def market(law: Regimes, *, jumps_per_year: float = 0.0) -> Market:
    part = Jumps(ConstantArrival(single(jumps_per_year)), KouSizes(single(0.4), single(0.01), single(0.02)))
    return Market(ConstantVolatility(single(0.5)), single(0.0), part if jumps_per_year else None, law)


@pytest.mark.parametrize(("crash", "quoted"), [(0, 0.0215228665), (1, 0.3645518746)])
def test_first_passage_is_that_of_two_regimes(crash: int, quoted: float) -> None:
    """Volatility 50 and 200 %, falling by 7 % within a day. From calm it is held against the truth where crashes are ten times as
    frequent, which sees more with as many paths; without switching it were a tenth of that. Sees errors of 8 and 5 %."""
    distance, law = -np.log(0.93), {"volatilities": (0.5, 2.0), "to_calm": 365.0}
    assert truth.two_regime_passage(distance, DAY, to_crash=24.0, **law)[crash] == pytest.approx(quoted, abs=1e-9)
    to_crash = 24.0 if crash else 240.0
    true = truth.two_regime_passage(distance, DAY, to_crash=to_crash, **law)[crash]
    part = market(regimes(at_start=crash, to_crash=to_crash))
    made = journey(part, dt=DAY / 288, steps=288, paths=100_000, seed=2, barrier=-distance)
    assert_mean(1 - made.survival, true, resolution=(0.05 if crash else 0.08) * true)


@pytest.mark.parametrize(("at_start", "days"), [(None, 0.5), (0.0, 1.0), (1.0, 1.0)])
def test_crashes_come_and_end_at_their_rates_whatever_the_step(at_start: float | None, days: float) -> None:
    """Sees an error of 0.008 in the share of crashes, in steps of a quarter of a day: a crash lasts a day."""
    made = journey(market(regimes(at_start=at_start)), dt=DAY / 4, steps=round(4 * days), paths=200_000, seed=2)
    share, left = 24 / 389, np.exp(-389 * DAY * days)
    expected = share if at_start is None else share + (at_start - share) * left
    assert_mean(np.asarray(made.state.crash), expected, resolution=0.012)


def test_a_crash_brings_more_jumps_and_prices_stay_fair() -> None:
    """Sees an error of 4 % in the number of jumps, five times as many in a crash, and 1.2 % in the expected price: the compensator
    is 2 % a crash."""
    law = regimes(jumps=5.0, at_start=1.0, to_calm=1e-6)
    made = journey(market(law, jumps_per_year=400.0), dt=DAY / 288, steps=288, paths=150_000, seed=3)
    assert_mean(made.jumps, 5 * 400 * DAY, resolution=0.012 * 5 * 400 * DAY)
    assert_mean(np.exp(made.log_price), 1.0, resolution=0.004)


def test_one_regime_is_none() -> None:
    """A crash that is like calm changes nothing but rounding."""
    same = regimes(volatility=1.0)
    both = [journey(market(law), dt=DAY / 24, steps=24, paths=500, seed=4).log_price for law in (same, None)]
    np.testing.assert_allclose(*both, atol=1e-7)


def test_the_variance_rate_is_that_of_the_regime() -> None:
    law = regimes(jumps=5.0)
    model = market(law, jumps_per_year=300.0)
    state = model.usual(jnp.zeros(2))._replace(crash=jnp.array([False, True]))
    jump = 2 * (0.4 * 0.01**2 + 0.6 * 0.02**2)
    np.testing.assert_allclose(
        model.variance_rate(state, single(2.0)), 4 * np.array([0.25 + 300 * jump, 4 + 1500 * jump])
    )


# --- what the venue feels -------------------------------------------------------------------------------------------------


FIELDS = ("bad_debt", "penalty", "liquidated")
ALWAYS = {"at_start": 1.0, "to_calm": 1e-6, "volatility": 1.0}
NEVER = {"at_start": 0.0, "to_crash": 1e-6, "volatility": 1.0}


def felt(law: Regimes | None, delay, depth_scale: float = 1.0) -> dict[str, np.ndarray]:
    """What the same 4,096 paths come to at a venue with everything on."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 48, np.float32)
    scenario, parameters = case.scenario(), case.parameters()
    model = eqx.tree_at(lambda m: m.regimes, scenario.market, law, is_leaf=lambda x: x is None)
    scenario = eqx.tree_at(lambda s: (s.market, s.oracle.delay), scenario, (model, delay))
    parameters = parameters._replace(world=parameters.world._replace(depth_scale=single(depth_scale)))
    return simulate(scenario, parameters, seed=5, paths=4096, fields=FIELDS).values


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for field in FIELDS:
        np.testing.assert_allclose(one[field], other[field], rtol=5e-3, atol=1e-6)


def test_a_crash_takes_depth_away_and_makes_the_oracle_late() -> None:
    """Not statistical, but for rounding. A crash that never ends and only halves depth is a market of half the depth; one in
    which the oracle is late by four steps is an oracle that is later by four steps; one that never comes is none."""
    usual = felt(None, delay_of(1))
    thin, late = felt(None, delay_of(1), 0.5), felt(None, delay_of(5))
    same(felt(regimes(**ALWAYS, depth=0.5), delay_of(1)), thin)
    same(felt(regimes(**ALWAYS), delay_of(1, in_crash=4)), late)
    same(felt(regimes(**NEVER, depth=0.5), delay_of(1, in_crash=4)), usual)
    assert thin["liquidated"].mean() < 0.9 * usual["liquidated"].mean(), "keepers close less where it costs more"
    assert np.abs(late["bad_debt"] - usual["bad_debt"]).max() > 1e-4, "late reports close other accounts"


def test_a_crash_holds_reports_up_and_none_is_followed_by_an_older_one() -> None:
    """Step by step, against the rule in words: what the delay of today lets through, or what was seen already if that is newer."""
    rng, steps, usual, extra = np.random.default_rng(6), 200, 2, 5
    crash = np.repeat(rng.random((steps // 8, 3)) < 0.5, 8, axis=0)
    delay, seen_last = delay_of(usual, in_crash=extra), np.full(3, -1.0)
    line, place = delay.empty_line(jnp.full(3, -1.0)), delay.first_place(jnp.zeros(3))
    through = eqx.filter_jit(delay.through_at_own_pace)
    for today in range(steps):
        today_values = jnp.full(3, float(today))
        line, place, seen = through(
            line, place, jnp.int32(today), today_values, jnp.zeros(3), jnp.asarray(crash[today])
        )
        seen_last = np.maximum(seen_last, today - usual - extra * crash[today])
        np.testing.assert_array_equal(seen, seen_last)
