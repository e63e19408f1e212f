"""Crashes drawn oftener than they come: whatever is learned, weighted figures are those of the market's own regimes."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import truth
from scipy.special import ndtr
from statistical import assert_close, assert_mean, assert_mean_of_plain_paths, assert_tail_of_plain_paths
from venues import DAY, EVERYTHING_ON, LONGS_AND_SHORTS, Case, TestBook, switched_off

from calibrate.certify import measured
from calibrate.constraints import InsolvencyProbability
from calibrate.likelier_crashes import LikelierCrashes
from calibrate.market.regimes import Regimes
from calibrate.progress import Silent
from calibrate.rare_events import DEFENSIVE_SHARE, Family, Guess, first_guess, learned, sampling_of
from calibrate.sampling import ImportanceSampling, LargeJumps, block_of
from calibrate.simulate import Sample, Scenario, simulate
from calibrate.weighing import diagnose, mean_and_error, probability_and_error

STEPS, PATHS = 48, 120_000
CASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, STEPS, np.float32)
FIELDS = ("distance", "bad_debt", "penalty", "liquidated_share", "final_log_price")


def regimes(to_crash: float, to_calm: float, volatility: float, jumps: float, depth: float, start: float) -> Regimes:
    """Rates a year, as everywhere; the oracle is no later in a crash."""
    return Regimes(*(jnp.float32(x) for x in (to_crash, to_calm, volatility, jumps, depth, 0.0, start)))


def with_regimes(case: Case, law: Regimes) -> Scenario:
    return eqx.tree_at(lambda s: s.market.regimes, case.scenario(), law, is_leaf=lambda x: x is None)


# Half an hour of three times the volatility and jumps at half the depth: in one of twelve horizons, and at one start of twenty.
OFTEN = regimes(365 * 24 * 0.05, 365 * 48.0, 3.0, 3.0, 0.5, 0.05)


LARGE = LargeJumps(0.006, 3.0, 1.5, 1.2)
# Prices that fall, with crashes; that rise, with large jumps; and both at once.
GUESS = Guess(
    (
        Family(0.2, -0.1, -0.6, 0.05, 0.3, np.array([9]), np.ones(1), crashes=True),
        Family(-0.2, 0.1, 0.4, -0.1, 0.2, np.array([20]), np.ones(1), up=True),
        Family(0.1, 0.0, 0.0, 0.0, 0.0, np.array([24]), np.ones(1), up=True, down=True, crashes=True),
    ),
    LARGE,
    LARGE,
    3,
    LikelierCrashes(0.3, 0.02),
)
EVERY_KIND = sampling_of(GUESS, np.dtype(np.float32))


def simulated(law: Regimes, sampling: ImportanceSampling, seed: int, paths: int = PATHS) -> Sample:
    scenario, parameters = with_regimes(CASE, law), CASE.parameters()
    asked = {"seed": seed, "paths": paths, "fields": FIELDS, "chunk": 4096}
    return simulate(scenario, parameters, sampling=sampling, keep_drawn=True, **asked)


@pytest.fixture(scope="module")
def weighted() -> Sample:
    return simulated(OFTEN, EVERY_KIND, 1)


@pytest.fixture(scope="module")
def plain() -> Sample:
    """By the same program, which saves compiling another."""
    made = simulated(OFTEN, EVERY_KIND.plain(), 2)
    np.testing.assert_array_equal(made.weights, 1.0)
    return made


def chain(law: Regimes, dt: float) -> tuple[float, float]:
    """The probabilities of turning to a crash, and of one going on, in a step."""
    to_crash, to_calm = float(law.crashes_per_year), float(law.recoveries_per_year)
    left = np.exp(-(to_crash + to_calm) * dt)
    share = to_crash / (to_crash + to_calm)
    return share * (1 - left), share + (1 - share) * left


# --- weights --------------------------------------------------------------------------------------------------------------


def test_weights_average_to_one_and_never_exceed_one_over_the_plain_share(weighted: Sample) -> None:
    """Sees an error of 4 % in the densities on average."""
    assert_mean(weighted.weights, 1.0, resolution=0.04)
    assert weighted.weights.max() <= 1 / DEFENSIVE_SHARE * (1 + 1e-5)


def test_crashes_come_as_often_as_the_market_says(weighted: Sample) -> None:
    """At the start, and later: sees errors of 15 %, while both are drawn four times as often and oftener."""
    drawn, weights = weighted.drawn, weighted.weights
    start, (comes, stays) = float(OFTEN.share_at_start), chain(OFTEN, EVERYTHING_ON.step_years)
    calm = [1 - start]
    for _ in range(STEPS - 1):
        calm.append(calm[-1] * (1 - comes) + (1 - calm[-1]) * (1 - stays))
    for field, expected, resolution in (
        ("began_in_crash", start, 0.15),
        ("crashes", comes * sum(calm), 0.15),
        ("calm_steps", sum(calm), 0.03),
    ):
        told = np.asarray(getattr(drawn, field), np.float64)
        assert_close(*mean_and_error(told, weights), expected, resolution=resolution * expected)
    assert np.mean(drawn.began_in_crash) > 3 * start
    assert np.mean(drawn.crashes) > 3 * comes * sum(calm)


@pytest.mark.parametrize(("field", "resolution"), [("bad_debt", 0.35), ("penalty", 0.1), ("liquidated_share", 0.1)])
def test_weighted_means_are_those_of_plain_paths(
    field: str, resolution: float, weighted: Sample, plain: Sample
) -> None:
    """Everything tilted at once; `resolution` is the relative error that is seen."""
    assert_mean_of_plain_paths(weighted, plain, field, resolution)


def test_weighted_probabilities_are_those_of_plain_paths(weighted: Sample, plain: Sample) -> None:
    """From one in ten to one in three thousand, where the plain sample still sees them; sees errors of 15 % to 250 %."""
    for share, resolution in ((0.1, 0.15), (0.01, 0.4), (0.001, 1.2), (0.0003, 2.5)):
        level = np.quantile(plain.values["distance"], 1 - share)
        assert_tail_of_plain_paths(weighted, plain, level, resolution)


def test_what_the_market_cannot_do_is_not_drawn(weighted: Sample) -> None:
    """A start that is calm for certain stays so, and one in a crash too, and no weight is lost; sees an error of 7 % in it."""
    for start in (0.0, 1.0):
        law = eqx.tree_at(lambda r: r.crash_at_start, OFTEN, jnp.float32(start))
        made = simulated(law, EVERY_KIND, 3, 40_960)
        np.testing.assert_array_equal(made.drawn.began_in_crash, start)
        assert_mean(made.weights, 1.0, resolution=0.07)


# --- against closed forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fall", "quoted"), [(0.14, 1e-4), (0.18, 2.8e-5)])
def test_a_rare_fall_in_two_regimes_has_its_probability(fall: float, quoted: float) -> None:
    """Volatility 50 and 200 %, nothing else, 48 steps: given how many of them were in a crash the fall is normal, and their number
    has a law that is summed up step by step. Sees an error of 30 %."""
    law = regimes(4.0, 365 * 4.0, 4.0, 1.0, 1.0, 0.001)
    case = Case(
        switched_off(volatility=0.5, step_years=DAY / STEPS, margin=0.02, keeper_delay_steps=1),
        TestBook(((1, 1.0, ((0.5, 0.6, 1.0),)),)),
        STEPS,
        np.float32,
    )
    firsts = np.arange(0, STEPS // block_of(STEPS), 3)
    falling = Family(0.0, 0.0, -0.6, 0.0, 0.0, firsts, np.ones(len(firsts)), crashes=True)
    sampling = sampling_of(Guess((falling,), LARGE, LARGE, 6, LikelierCrashes(0.3, 0.02)), np.dtype(np.float32))
    made = simulate(
        with_regimes(case, law),
        case.parameters(),
        seed=4,
        paths=2 * PATHS,
        fields=("final_log_price",),
        sampling=sampling,
    )
    expected = fall_probability(law, fall, volatility=0.5, dt=DAY / STEPS)
    assert expected == pytest.approx(quoted, rel=0.1)
    value, error = probability_and_error(made.values["final_log_price"] < -fall, made.weights)
    print(
        f"{value:.4g} against {expected:.4g}: {value / expected - 1:+.2%} at a standard error of {error / expected:.2%}"
    )
    assert_close(value, error, expected, resolution=0.3 * expected)


def fall_probability(law: Regimes, fall: float, *, volatility: float, dt: float) -> float:
    """That the log-price is below `-fall` after the last step."""
    comes, stays = chain(law, dt)
    start = float(law.share_at_start)
    # By regime and number of steps in a crash so far.
    share = np.zeros((2, STEPS + 1))
    share[:, 0] = 1 - start, start
    for _ in range(STEPS):
        calm, crash = share[0], np.roll(share[1], 1)
        share = np.array([calm * (1 - comes) + crash * (1 - stays), calm * comes + crash * stays])
    in_crash = np.arange(STEPS + 1)
    variance = volatility**2 * dt * (STEPS - in_crash + float(law.volatility_multiplier) ** 2 * in_crash)
    return float(share.sum(axis=0) @ ndtr((-fall + variance / 2) / np.sqrt(variance)))


@pytest.mark.parametrize("start", [0.0, 0.002])
def test_insolvency_by_a_jump_that_only_a_crash_brings_meets_the_closed_form(start: float) -> None:
    """An account that only a jump can hurt, and a market that jumps in crashes alone, of which there is one a year: what is learned
    finds them. Second jumps in a crash, and jumps in calm, matter a hundredth. Sees an error of 25 %."""
    margin, in_crash, times, rate = 0.1, 0.1, 5000.0, 1 / 0.02
    rules = replace(
        switched_off(volatility=1e-6, step_years=DAY / STEPS, margin=margin, keeper_delay_steps=0, oracle="exact"),
        jumps_per_year=in_crash * 365 / times,
        jump_up_probability=0.5,
        jump_up_mean=0.02 / 1.04,  # jumps leave the expected price where it is, so that it does not drift in a crash
        jump_down_mean=1 / rate,
    )
    low = margin + 1e-6
    case = Case(rules, TestBook(((1, 1.0, ((low, low * (1 + 1e-5), 1.0),)),)), STEPS, np.float32)
    law = regimes(1.0, 365 * 4.0, 1.0, times, 1.0, start)
    comes, stays = chain(law, DAY / STEPS)
    unharmed = np.array([1 - start, start])
    for _ in range(STEPS):
        calm, crash = unharmed * (1 - 0.5 * in_crash / STEPS * np.array([1 / times, 1.0]))
        unharmed = np.array([calm * (1 - comes) + crash * (1 - stays), calm * comes + crash * stays])
    expected = (1 - unharmed.sum()) * truth.jump_insolvency(1.0, margin, rate)
    sample, chosen = measured(
        with_regimes(case, law),
        case.parameters(),
        (InsolvencyProbability(1e-6),),
        sampling="auto",
        seed=5,
        paths=131_072,
        stage="",
        listener=Silent(),
        tail_level=0.99,
    )
    hit = sample.values["distance"] > 0
    value, error = probability_and_error(hit, sample.weights)
    print(
        f"{value:.4g} against {expected:.4g}: {value / expected - 1:+.2%} at a standard error of {error / expected:.2%}"
    )
    assert chosen.gain > 1000
    assert diagnose(hit, sample.weights).poor is None
    assert_close(value, error, expected, resolution=0.25 * expected)


# --- what is learned ------------------------------------------------------------------------------------------------------


def test_what_is_learned_draws_crashes_where_they_matter(weighted: Sample) -> None:
    """On the worst paths calm turns to a crash, so that later paths are drawn with more of that. A market of one regime is drawn as
    ever."""
    blocks, kind = STEPS // block_of(STEPS), np.dtype(np.float32)
    assert first_guess(blocks, STEPS, jumps=True).crashes is None
    assert sampling_of(first_guess(blocks, STEPS, jumps=True), kind).components.crashes is None
    assert [family.crashes for family in first_guess(blocks, STEPS, jumps=True, regimes=True).families].count(True) == 6
    worst = weighted.weights * (weighted.values["distance"] > np.quantile(weighted.values["distance"], 0.95))
    after = learned(GUESS, EVERY_KIND, weighted.drawn, worst, block_of(STEPS))
    assert after.crashes is not None
    np.testing.assert_allclose(float(jnp.sum(sampling_of(after, kind).components.share)), 1.0, rtol=1e-6)
    assert after.crashes.each_step > 3 * chain(OFTEN, EVERYTHING_ON.step_years)[0]
    assert sum(family.shares.sum() for family in after.families if family.crashes) > 0.5
