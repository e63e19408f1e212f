"""Jump parts against what is known of them: sizes, prices, passages, counts of jumps that excite each other, and derivatives in how
often they come."""

import jax.numpy as jnp
import market_truth as truth
import numpy as np
import pytest
from markets import conditional_calls, journey, walk
from scipy.special import ndtr
from statistical import assert_close, assert_law, assert_mean
from truth import kou_passage_probability
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.gradient import bandwidth, probability_gradient, score_gradient
from calibrate.market.arrival import ConstantArrival
from calibrate.market.constant import ConstantVolatility
from calibrate.market.hawkes import HawkesArrival
from calibrate.market.kou import KouSizes
from calibrate.market.market import Jumps, Market
from calibrate.market.merton import MertonSizes
from calibrate.market.model import Arrival, Sizes
from calibrate.policy import World
from calibrate.simulate import simulate

single = jnp.float32


def market(volatility: float, arrival: Arrival, sizes: Sizes, drift: float = 0.0) -> Market:
    return Market(ConstantVolatility(single(volatility)), single(drift), Jumps(arrival, sizes))


def at_rate(jumps_per_year: float) -> ConstantArrival:
    return ConstantArrival(single(jumps_per_year))


def kou(up: float, up_mean: float, down_mean: float) -> KouSizes:
    return KouSizes(single(up), single(up_mean), single(down_mean))


def merton(mean: float, sd: float) -> MertonSizes:
    return MertonSizes(single(mean), single(sd))


# --- sizes and prices -----------------------------------------------------------------------------------------------------


def test_merton_sizes_are_normal_up_to_their_tails() -> None:
    """Sees a gap of 1 % in the distribution function, and of 3 % in that of the worst hundredth."""
    jump = walk(market(0.1, at_rate(8.0), merton(-0.1, 0.2)), dt=1 / 16, steps=8, paths=100_000, seed=1).jump
    standard = (jump[jump != 0] + 0.1) / 0.2
    assert_law(standard, ndtr, resolution=0.012)
    worst = standard[standard < -2.0]
    assert_law(worst, lambda x: ndtr(x) / ndtr(-2.0), resolution=0.08)


@pytest.mark.parametrize(("years", "quoted"), [(1, 10.8109869668), (3, 14.7887336082)])
def test_merton_puts_have_the_prices_of_the_series(years: int, quoted: float) -> None:
    """Sees an error of 1.6 %."""
    numbers = {"volatility": 0.0433**0.5, "jumps_per_year": 2.0, "mean": -0.2, "sd": 0.2}
    price = truth.merton_put(95, years, **numbers, interest=0.1, yielded=0.04)
    assert price == pytest.approx(quoted, rel=1e-9)
    model = market(numbers["volatility"], at_rate(2.0), merton(-0.2, 0.2))
    made = journey(model, dt=1 / 200, steps=200 * years, paths=200_000, seed=2, muted=True)
    forward = 100 * np.exp(0.06 * years)
    puts = conditional_calls(made, 95, spot=forward) - (forward - 95)
    assert_mean(puts * np.exp(-0.1 * years), price, resolution=0.016 * price)


@pytest.mark.parametrize("strike", [90, 100, 110])
def test_kou_calls_have_the_prices_of_the_characteristic_function(kou_quarter, strike: float) -> None:
    """Sees an error of 2 %: jumps are half of the variance."""
    made, jumps = kou_quarter
    both = lambda u: truth.diffusion(u, 0.25, 0.3) * truth.kou_jumps(u, 0.25, **jumps)  # noqa: E731
    price = truth.call_price(both, strike, 0.25)
    assert_mean(conditional_calls(made, strike), price, resolution=0.02 * price)


@pytest.fixture(scope="module")
def kou_quarter():
    jumps = {"rate": 20.0, "up": 0.4, "up_mean": 0.03, "down_mean": 0.05}
    model = market(0.3, at_rate(20.0), kou(0.4, 0.03, 0.05))
    return journey(model, dt=1 / 4000, steps=1000, paths=100_000, seed=3, muted=True), jumps


def test_kou_paths_pass_a_barrier_as_often_as_they_should() -> None:
    """Falling by 0.3 within a year, with jumps down by 2 % and up by 3 % on average three times a year; sees 5 %."""
    fall, rise, s, rate = 1 / 0.02, 1 / 0.03, 0.2, 3.0
    drift_of_log = -0.1
    true = kou_passage_probability(
        0.3, 1.0, log_drift=-drift_of_log, volatility=s, jumps_per_year=rate, up_probability=0.5, up_rate=fall,
        down_rate=rise,
    )  # fmt: skip
    assert true == pytest.approx(0.255843040081, abs=1e-9)
    compensator = rate * (0.5 * 0.03 / (1 - 0.03) - 0.5 * 0.02 / (1 + 0.02))
    model = market(s, at_rate(rate), kou(0.5, 0.03, 0.02), drift=drift_of_log + s**2 / 2 + compensator)
    made = journey(model, dt=1 / 300, steps=300, paths=150_000, seed=4, barrier=-0.3)
    assert_mean(1 - made.survival, true, resolution=0.05 * true)


# --- self-excitement ------------------------------------------------------------------------------------------------------


def hawkes(dt: float, *, from_calm: bool, paths: int = 100_000, horizon: float = 10.0):
    """Time in units of the memory of excitement: background 0.5, 0.6 further jumps each, as in the tables of the literature."""
    arrival = HawkesArrival(single(1.25), single(0.6), single(1.0))
    start = (lambda state: state._replace(arrival=0 * state.arrival)) if from_calm else (lambda state: state)
    model = market(0.0, arrival, kou(1.0, 0.0, 0.0))
    return journey(model, dt=dt, steps=round(horizon / dt), paths=paths, seed=5, start=start)


def test_self_exciting_jumps_are_as_many_and_as_clustered_as_they_should_be() -> None:
    """From no excitement, over ten memories: mean 10.65934 and variance 48.0815 of the number (Hawkes 1971, by the equations of
    moments). Sees errors of 3 and 10 %; without excitement the variance were the mean."""
    made = hawkes(1 / 150, from_calm=True, paths=50_000)
    assert_mean(made.jumps, 10.65934182, resolution=0.03 * 10.66)
    assert_mean((made.jumps - 10.65934182) ** 2, 48.08150564, resolution=0.1 * 48.08)


def test_excitement_has_its_long_run_moments() -> None:
    """Mean rate 1.25, variance alpha^2 mean / (2 (beta - alpha)) = 0.5625. Sees errors of 3 and 12 %."""
    made = hawkes(1 / 100, from_calm=False, paths=50_000)
    rate = 0.5 + np.asarray(made.state.arrival, float)
    assert_mean(rate, 1.25, resolution=0.03 * 1.25)
    assert_mean((rate - 1.25) ** 2, 0.5625, resolution=0.12 * 0.5625)


def test_jumps_that_excite_none_come_independently() -> None:
    arrival = HawkesArrival(single(40.0), single(0.0), single(100.0))
    both = [
        walk(market(0.2, a, kou(0.5, 0.02, 0.02)), dt=1 / 2000, steps=100, paths=2000, seed=6)
        for a in (arrival, at_rate(40.0))
    ]
    assert both[0].jump.any()
    np.testing.assert_allclose(both[0].log_price, both[1].log_price, atol=1e-6)


def test_the_price_is_a_martingale_through_clusters() -> None:
    """Sees 1 % where the compensator is 8 %."""
    arrival = HawkesArrival(single(200.0), single(0.7), single(2000.0))
    made = walk(market(0.3, arrival, kou(0.2, 0.03, 0.05)), dt=1 / 8760, steps=100, paths=50_000, seed=7)
    assert_mean(np.exp(made.log_price[-1]), 1.0, resolution=0.01)
    assert_mean(np.expm1(made.returns).ravel(), 0.0, resolution=1e-4)


# --- how often they come --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored():
    """Everything on for 48 steps of 20 minutes, with derivatives in how often jumps come: about 3 a path."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 48, np.float32).but(step_years=20 / (365 * 1440))
    policy, world = case.parameters()
    parameters = case.parameters()._replace(world=World(*world[:2], single(1.0)))
    assert policy is not None
    fields = ("final_log_price", "log_likelihood", "bad_debt", "liquidated_share", "initial_margin", "distance")
    return case, simulate(
        case.scenario(), parameters, seed=8, paths=160_000, fields=fields, derivatives=("jump_rate_scale",)
    )


def test_the_likelihood_is_one_and_its_score_has_no_mean(scored) -> None:
    """The variance of the score is the expected number of jumps, nearly (their probability in a step is up to a tenth)."""
    _, sample = scored
    assert not sample.values["log_likelihood"].any()
    score = sample.derivatives["log_likelihood"][:, 0].astype(float)
    assert_mean(score, 0.0, resolution=0.05)
    assert 0.8 < score.var() < 2.5


@pytest.fixture(scope="module")
def fewer_and_more(scored):
    """The same paths with three tenths fewer and more jumps: their means are a line that far, but for about a hundredth."""
    case, _ = scored
    fields = ("liquidated_share", "distance")
    worlds = [World(*case.parameters().world[:2], single(scale)) for scale in (0.7, 1.3)]
    changed = [case.parameters()._replace(world=world) for world in worlds]
    return [simulate(case.scenario(), each, seed=8, paths=160_000, fields=fields).values for each in changed]


def test_derivatives_in_the_rate_of_jumps_are_those_of_more_jumps(scored, fewer_and_more) -> None:
    """Along the path and by the likelihood together, against three tenths fewer and more jumps, on the same numbers. Sees 35 %
    of the derivative of the mean of what is liquidated; along the path alone it is seen to be wrong."""
    _, sample = scored
    fewer, more = (values["liquidated_share"].astype(float) for values in fewer_and_more)
    difference = (more - fewer) / 0.6
    values = sample.values["liquidated_share"].astype(float)
    along, score = (sample.derivatives[name][:, 0].astype(float) for name in ("liquidated_share", "log_likelihood"))
    by_score = (values - values.mean()) * score
    assert_mean(along + by_score - difference, 0.0, resolution=0.35 * difference.mean())
    missed = difference - along
    assert missed.mean() > 5 * missed.std() / np.sqrt(len(missed))
    estimated = score_gradient(values, score[:, None])
    assert estimated.value[0] == pytest.approx(by_score.mean(), rel=1e-6)
    assert estimated.value[0] > 20 * estimated.standard_error[0]


def test_insolvency_is_likelier_by_the_score_of_jumps(scored, fewer_and_more) -> None:
    """Against the paired difference of three tenths fewer and more jumps. Sees 40 % of the derivative; along the path alone, where
    the drift takes back what more jumps are expected to bring, it is seen to be wrong."""
    _, sample = scored
    distance, slopes = sample.values["distance"], sample.derivatives
    paths = len(distance)
    width = bandwidth(distance, np.count_nonzero(distance > 0))
    whole = probability_gradient(distance, slopes["distance"], paths, width, scores=slopes["log_likelihood"])
    along = probability_gradient(distance, slopes["distance"], paths, width)
    fewer, more = (values["distance"] > 0 for values in fewer_and_more)
    change = (more.astype(float) - fewer) / 0.6
    error = np.hypot(change.std() / np.sqrt(paths), whole.standard_error[0])
    assert_close(whole.value[0], error, change.mean(), resolution=0.4 * change.mean())
    assert change.mean() - along.value[0] > 5 * error
    # Paths that are left out because they are far below zero tell nothing.
    telling = np.asarray(distance) > -4 * width
    some = distance[telling], slopes["distance"][telling], slopes["log_likelihood"][telling]
    part = probability_gradient(*some[:2], paths, width, scores=some[2])
    np.testing.assert_allclose(part.value, whole.value, rtol=1e-3)
