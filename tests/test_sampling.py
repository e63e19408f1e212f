"""Paths drawn from where losses are: whatever they are drawn from, weighted figures are those of the market's own law."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import truth
from statistical import SIGMAS, assert_close, assert_mean, assert_mean_of_plain_paths, assert_tail_of_plain_paths
from test_optimise import GOLD_MARGIN, gold_problem, insolvent_rate
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case, TestBook, switched_off

from calibrate import rare_events
from calibrate.certify import measured
from calibrate.constraints import InsolvencyProbability, constraint_of
from calibrate.errors import UserError
from calibrate.gradient import probability_gradient
from calibrate.market.model import JumpLaw, draw_jump
from calibrate.optimise import FreeParameter, FrozenSample, Problem, solve
from calibrate.pieces import Piece, finite
from calibrate.progress import Silent
from calibrate.rare_events import DEFENSIVE_SHARE, choose, first_guess, has_jumps, learned, rounded, sampling_of
from calibrate.sampling import Components, Drawn, ImportanceSampling, LargeJumps, block_of, log_densities
from calibrate.simulate import Sample, simulate
from calibrate.weighing import diagnose, mean_and_error, probability_and_error

STEPS, PATHS = 48, 120_000
CASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, STEPS, np.float32)
# Shorts may lose any amount.
LONGS_ONLY = TestBook(tuple(cohort for cohort in LONGS_AND_SHORTS.cohorts if cohort[0] > 0))
FIELDS = ("distance", "bad_debt", "penalty", "initial_margin", "liquidated_share", "final_log_price")


def mixture(*rows: tuple[float, ...], up: tuple[float, ...], down: tuple[float, ...]) -> ImportanceSampling:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    made = [jnp.asarray(c, jnp.int32 if k in (6, 7) else jnp.float32) for k, c in enumerate(columns)]
    laws = (LargeJumps(*(jnp.float32(x) for x in law)) for law in (up, down))
    return ImportanceSampling(Components(*made), *laws)


# share, start, returns before and in the burst, volatility before and in the burst, first block and length of the burst; are
# upward and downward jumps tilted
EVERY_KIND = mixture(
    (0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0, 0.0),
    (0.25, 0.6, -0.1, -0.8, 0.05, 0.5, 7, 3, 0.0, 0.0),
    (0.25, -0.4, 0.15, 0.6, -0.1, 0.2, 20, 6, 1.0, 0.0),
    (0.25, 0.3, 0.0, 0.0, 0.0, 0.0, 24, 1, 1.0, 1.0),
    up=(0.006, 3.0, 1.5, 1.2),
    down=(0.012, 4.0, 2.0, 1.5),
)


def simulated(sampling: ImportanceSampling | None, seed: int, paths: int = PATHS, **more: object) -> Sample:
    return simulate(
        CASE.scenario(), CASE.parameters(), seed=seed, paths=paths, fields=FIELDS, sampling=sampling, **more
    )


@pytest.fixture(scope="module")
def weighted() -> Sample:
    return simulated(EVERY_KIND, 1, keep_drawn=True)


@pytest.fixture(scope="module")
def plain() -> Sample:
    return simulated(None, 2)


def test_weights_average_to_one_and_never_exceed_one_over_the_plain_share(weighted: Sample) -> None:
    """Sees an error of 4 % in the densities on average."""
    assert_mean(weighted.weights, 1.0, resolution=0.04)
    assert weighted.weights.max() <= 4.0 * (1 + 1e-5)


@pytest.mark.parametrize(
    ("field", "resolution"),
    [("bad_debt", 0.6), ("penalty", 0.15), ("initial_margin", 0.02), ("liquidated_share", 0.15)],
)
def test_weighted_means_are_those_of_plain_paths(
    field: str, resolution: float, weighted: Sample, plain: Sample
) -> None:
    """Whatever is tilted, at once; `resolution` is the relative error that is seen."""
    assert_mean_of_plain_paths(weighted, plain, field, resolution)


def test_weighted_probabilities_are_those_of_plain_paths(weighted: Sample, plain: Sample) -> None:
    """From one in three to one in three thousand, where the plain sample still sees them; sees errors of 10 % to 65 %, 200 %
    at the rarest."""
    levels = np.quantile(plain.values["distance"], [0.7, 0.97, 0.997, 0.9997])
    for level, resolution in zip(levels, (0.1, 0.24, 0.65, 2.0), strict=True):
        assert_tail_of_plain_paths(weighted, plain, level, resolution)


def test_what_is_remembered_of_the_shocks_has_the_markets_law(weighted: Sample) -> None:
    """Weighted back, sums of normals have mean 0 and variance one a step, and there are as many jumps as expected; sees a shift
    of 0.07 a step's standard deviation, 15 % in the variance, 12 % in the number of jumps."""
    drawn, weights = weighted.drawn, weighted.weights
    block = block_of(STEPS)
    for by_block in (drawn.returns, drawn.volatilities):
        for number in (0, 8, 22):
            total = np.asarray(by_block[number], np.float64)
            assert_close(*mean_and_error(total, weights), 0.0, resolution=0.07 * block)
            assert_close(*mean_and_error(total**2, weights), block, resolution=0.15 * block)
    assert_close(*mean_and_error(drawn.start, weights), 0.0, resolution=0.1)
    surplus = np.asarray(drawn.jumps, np.float64) - drawn.jumps_expected
    expected = mean_and_error(drawn.jumps_expected, weights)[0]
    assert_close(*mean_and_error(surplus, weights), 0.0, resolution=0.12 * expected)


@pytest.mark.parametrize(
    ("sign", "share"), [(1, EVERYTHING_ON.jump_up_probability), (-1, 1 - EVERYTHING_ON.jump_up_probability)]
)
def test_large_jumps_are_as_rare_as_the_market_says(sign: int, share: float, weighted: Sample) -> None:
    """How many jumps of one direction have an exponential beyond 5: at most one a path, near enough, so that the largest jump
    tells; sees an error of 55 %."""
    large = sign * np.asarray(weighted.drawn.largest_jump, np.float64) > 5.0
    expected = share * np.exp(-5.0) * mean_and_error(weighted.drawn.jumps_expected, weighted.weights)[0]
    value, error = probability_and_error(large, weighted.weights)
    assert_close(value, error, expected, resolution=0.55 * expected)


def test_paths_do_not_depend_on_the_chunk_or_on_company(weighted: Sample) -> None:
    numbers = np.array([5, 100_000, 77_777])
    few = simulate(
        CASE.scenario(), CASE.parameters(), seed=1, paths=numbers, fields=FIELDS, sampling=EVERY_KIND, chunk=2
    )
    for field in FIELDS:
        np.testing.assert_allclose(few.values[field], weighted.values[field][numbers], rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(few.weights, weighted.weights[numbers], rtol=2e-4)


def test_weights_know_nothing_of_the_policy(weighted: Sample) -> None:
    parameters = CASE.parameters()
    other = parameters._replace(policy=parameters.policy._replace(base_margin=jnp.float32(0.05)))
    again = simulate(CASE.scenario(), other, seed=1, paths=2000, fields=("distance",), sampling=EVERY_KIND)
    np.testing.assert_allclose(again.weights, weighted.weights[:2000], rtol=1e-4)
    assert not np.allclose(again.values["distance"], weighted.values["distance"][:2000])


def test_the_derivative_of_a_probability_of_weighted_paths_is_that_of_plain_ones() -> None:
    """At the level that one path in fifty exceeds; sees an error of 60 % in the derivative."""
    names = ("base_margin", "penalty")
    made = [
        simulate(
            CASE.scenario(),
            CASE.parameters(),
            seed=seed,
            paths=60_000,
            fields=("distance",),
            derivatives=names,
            sampling=sampling,
        )
        for seed, sampling in ((3, EVERY_KIND), (4, None))
    ]
    level = np.quantile(made[1].values["distance"], 0.98)
    width = 0.5 * (np.quantile(made[1].values["distance"], 0.995) - level)
    first, second = (
        probability_gradient(s.values["distance"] - level, s.derivatives["distance"], s.paths, width, s.weights)
        for s in made
    )
    for k in range(len(names)):
        together = float(np.hypot(first.standard_error[k], second.standard_error[k]))
        assert_close(first.value[k], together, second.value[k], resolution=0.6 * abs(second.value[k]))


# --- what is learned ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [GOLD_MARGIN, 0.03, 0.04])
def test_rates_down_to_one_in_a_million_meet_the_closed_form(margin: float) -> None:
    """Insolvent accounts, tenfold leverage, keepers an hour late: 2e-3, 4e-5 and 6e-7. Learned and measured on 66,000 paths
    each; sees errors of 12, 18 and 25 %. Plainly sampled, a single account would be seen to fail at the last on 40 % of samples."""
    rate = insolvent_rate(margin)
    problem = gold_problem(rate)
    sample, chosen = measured(
        problem.scenario,
        problem.at(np.array([margin])),
        problem.constraints,
        sampling="importance",
        seed=3,
        paths=65_536,
        stage="",
        listener=Silent(),
        tail_level=0.99,
    )
    values = problem.constraints[0].contribution(sample.values)
    found = problem.constraints[0].estimate(values, sample.weights)
    assert_close(
        found.value, found.standard_error, rate, resolution={GOLD_MARGIN: 0.12, 0.03: 0.18, 0.04: 0.25}[margin] * rate
    )
    assert chosen.gain > {GOLD_MARGIN: 5, 0.03: 50, 0.04: 500}[margin]
    assert diagnose(values, sample.weights).poor is None


# What lies between the ends is left for slow runs.
LIMITS = [1e-4, pytest.param(1e-5, marks=pytest.mark.slow), 1e-6]


@pytest.mark.parametrize("limit", LIMITS)
def test_the_optimiser_finds_the_margin_of_a_rare_limit_within_half_a_per_cent(limit: float) -> None:
    """Tenfold leverage, keepers an hour late, the margin solved by closed form; sees an error of 1 % in the margin."""
    margin = truth.margin_for(limit, lambda m: insolvent_rate(m, parts=4), 0.02, 0.045)
    problem = gold_problem(limit)._replace(sampling="importance")
    bump = 1e-3 * margin
    slope = (insolvent_rate(margin + bump) - insolvent_rate(margin - bump)) / (2 * bump)
    assert_margin(problem, margin, slope)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_optimiser_finds_the_margin_that_jumps_ask_for(limit: float) -> None:
    """Accounts that hold up to a twentieth more than the margin, a price that only jumps (Kou), no latency: a first jump down
    beyond what an account holds leaves a loss. Second jumps matter less than a hundredth. Sees an error of 1 % in the margin."""
    per_day, rate = 0.05, 1 / 0.02
    up_probability, up_mean, down_mean = 0.3, 0.01, 1 / rate
    mean_jump = up_probability * up_mean / (1 - up_mean) - (1 - up_probability) * down_mean / (1 + down_mean)
    rules = replace(
        switched_off(volatility=1e-6, step_years=1 / 365 / 48, margin=0.1, keeper_delay_steps=0, oracle="exact"),
        initial_ratio=1.0,
        jumps_per_year=per_day * 365,
        jump_up_probability=up_probability,
        jump_up_mean=up_mean,
        jump_down_mean=down_mean,
        drift=per_day * 365 * mean_jump,  # between jumps the price stands still
    )
    least, most = 1.0 + 1e-5, 1.05
    book = TestBook(((1, 1.0, ((least, most, 1.0),)),), responds=True)
    case = Case(rules, book, 48, np.float32)
    free = (FreeParameter("base_margin", 0.05, 0.4),)
    constraints = (constraint_of("account_insolvency_rate", limit, 0.99),)
    problem = Problem(case.scenario(), case.parameters(), free, constraints, 0.0, sampling="importance")
    crossing = -np.expm1(-(1 - up_probability) * per_day)

    def insolvent(m: float) -> float:
        """The mean of `truth.jump_insolvency` over the accounts."""
        at_most, at_least = (truth.jump_insolvency(crossing, part * m, rate + 1) for part in (least, most))
        return float((at_most - at_least) / ((rate + 1) * m * (most - least)))

    margin = truth.margin_for(limit, insolvent, 0.05, 0.4)
    bump = 1e-3 * margin
    assert_margin(problem, margin, (insolvent(margin + bump) - insolvent(margin - bump)) / (2 * bump))


def assert_margin(problem: Problem, margin: float, slope: float) -> None:
    """The search ends at the margin, where the rate has this slope."""
    limit = problem.constraints[0].limit
    sample = FrozenSample(problem, seed=11, paths=2_500_000)
    solution = solve(sample, np.array([0.9 * margin]), np.ones(1))
    assert solution.feasible
    relative_error = np.sqrt(sample.learn(solution.point).relative_variance[0] / sample.paths)
    error = float(relative_error * limit / abs(slope) / margin)
    print(f"margin {solution.point[0] / margin - 1:+.3%} off, standard error {error:.3%}")
    assert_close(solution.point[0] / margin, error, 1.0, resolution=0.01)
    assert abs(solution.point[0] / margin - 1) < 0.005


def jump_problem(margin: float, limit: float):  # type: ignore[no-untyped-def]
    """An account that only a jump can hurt: negligible volatility, an exact oracle, no delay; and how likely it is to fail."""
    per_day, rate = 0.05, 1 / 0.02
    rules = replace(
        switched_off(volatility=1e-4, step_years=1 / 365 / 48, margin=margin, keeper_delay_steps=0, oracle="exact"),
        jumps_per_year=per_day * 365,
        jump_up_probability=0.3,
        jump_up_mean=0.01,
        jump_down_mean=1 / rate,
    )
    # Right at its margin: every jump down closes it, and one by more than -log(1 - margin) leaves a loss.
    low = margin + 1e-6
    case = Case(rules, TestBook(((1, 1.0, ((low, low * (1 + 1e-5), 1.0),)),)), 48, np.float32)
    return case, per_day, rate


@pytest.mark.parametrize("margin", [0.15, 0.25, 0.33])
def test_insolvency_by_a_single_jump_meets_the_closed_form(margin: float) -> None:
    """At zero latency: the chance of a jump down beyond the margin. 1e-5 to 1e-10 a day; sees an error of 25 %."""
    case, per_day, rate = jump_problem(margin, 1e-6)
    downward = 0.7 * per_day
    beyond = truth.jump_insolvency(1.0, margin, rate)
    # The first jump down closes the account, if upward jumps before it have not lifted it: they are followed exactly by
    # thinning, since the overshoot needed grows with the price; at these rates they matter less than a thousandth.
    expected = (1 - np.exp(-downward)) * beyond
    sample, chosen = measured(
        case.scenario(),
        case.parameters(),
        (InsolvencyProbability(1e-6),),
        sampling="auto",
        seed=5,
        paths=65_536,
        stage="",
        listener=Silent(),
        tail_level=0.99,
    )
    assert chosen.gain > 100
    value, error = probability_and_error(sample.values["distance"] > 0, sample.weights)
    print(f"{value / expected - 1:+.3%} off at a standard error of {error / expected:.3%}")
    assert_close(value, error, expected, resolution=0.25 * expected)


def test_a_uniform_that_rounding_took_below_zero_draws_a_jump_of_finite_size() -> None:
    """What large jumps leave of a uniform is a difference, which may end a rounding below zero, once in some hundred million steps:
    such a path once had no price."""
    law = JumpLaw(jnp.full(3, 1e-3), jnp.full(3, 0.45))
    jump = draw_jump(law, jnp.array([-1e-10, 0.0, 1e-10]))
    assert jump.occurs.all()
    assert np.isfinite(jump.excess).all()


def test_what_cannot_happen_teaches_nothing_and_is_drawn_plainly() -> None:
    """A fund that no loss of longs exhausts: no pilot meets an insolvency, so that nothing is gained by drawing otherwise, and
    what is said of the gain is a number that a file can hold."""
    safe = Case(replace(EVERYTHING_ON, fund=10.0), LONGS_ONLY, STEPS, np.float32)
    asked = safe.scenario(), safe.parameters(), (InsolvencyProbability(1e-4),)
    told, drawn = (
        choose(*asked, kind=kind, at_limit=False, seed=1, listener=Silent()) for kind in ("importance", "auto")
    )
    assert told.gain == 1.0
    assert drawn.sampling is None


def test_what_is_learned_does_not_depend_on_anything_but_the_seed() -> None:
    made = [
        choose(
            CASE.scenario(),
            CASE.parameters(),
            (InsolvencyProbability(1e-4),),
            kind="importance",
            at_limit=True,
            seed=seed,
            listener=Silent(),
        )
        for seed in (1, 1, 2)
    ]
    leaves = [jax.tree.leaves(chosen.sampling) for chosen in made]
    assert all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))


def test_sampling_is_plain_where_that_will_do_or_is_asked_for() -> None:
    asked = {
        "auto": (InsolvencyProbability(0.05), constraint_of("user_cost", 1e-3, 0.99)),
        "plain": (InsolvencyProbability(1e-6),),
    }
    for kind, constraints in asked.items():
        chosen = choose(
            CASE.scenario(), CASE.parameters(), constraints, kind=kind, at_limit=True, seed=1, listener=Silent()
        )
        assert chosen.sampling is None


def test_the_mixture_keeps_its_plain_share_and_sums_to_one() -> None:
    scenario = CASE.scenario()
    assert has_jumps(scenario)
    assert not has_jumps(gold_problem(1e-3).scenario)
    guess = first_guess(STEPS // block_of(STEPS), STEPS, jumps=True)
    sampling = sampling_of(guess, np.dtype(np.float32))
    drawn = simulated(sampling, 7, 8192, keep_drawn=True)
    worst = drawn.weights * (drawn.values["distance"] > np.quantile(drawn.values["distance"], 0.9))
    after = learned(guess, sampling, drawn.drawn, worst, block_of(STEPS))
    for made in (guess, after):
        shares = np.asarray(sampling_of(made, np.dtype(np.float32)).components.share, np.float64)
        np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-6)
        np.testing.assert_allclose(shares[0], DEFENSIVE_SHARE, rtol=1e-6)
        assert (shares > 0).all()
    assert rounded(after).up == after.up
    falling = after.families[0]
    assert falling.burst_return < 0
    # The worst paths weigh far less than the others: what was learned shows in the mean of what is drawn next.
    again = simulated(sampling_of(after, np.dtype(np.float32)), 8, 8192)
    level = np.quantile(drawn.values["distance"], 0.9)
    assert np.mean(again.values["distance"] > level) > 2 * np.mean(drawn.values["distance"] > level)


def test_what_is_learned_of_any_number_of_paths_is_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many paths matter differs from round to round."""
    traces = []
    counted = eqx.filter_jit(lambda *arguments: traces.append(1) or log_densities(*arguments))
    monkeypatch.setattr(rare_events, "_log_densities", counted)
    blocks = STEPS // block_of(STEPS)
    guess = first_guess(blocks, STEPS, jumps=True)
    sampling = sampling_of(guess, np.dtype(np.float32))
    rng = np.random.default_rng(1)
    normals, numbers = rng.normal(size=(2, blocks, 64)).astype(np.float32), rng.random((7, 64)).astype(np.float32)
    drawn = Drawn(numbers[0], *normals, *numbers[1:6], weight=numbers[6])
    first, second = (learned(guess, sampling, drawn, numbers[6] * (numbers[0] > least), 2) for least in (0.3, 0.6))
    assert first.families[0].start != second.families[0].start
    assert len(traces) == 1


def test_a_tilt_without_a_plain_share_is_told_apart_from_a_good_one() -> None:
    """All paths driven far down: nearly all are insolvent, the estimate looks precise and is wrong by many of its errors, and the
    diagnosis refuses it."""
    driven = mixture(
        (1.0, 0.0, -0.8, 0.0, 0.0, 0.0, 24, 1, 0.0, 0.0), up=(1e-3, 3.0, 1.0, 1.0), down=(1e-3, 3.0, 1.0, 1.0)
    )
    good, tilted = simulated(EVERY_KIND, 9, 40_000), simulated(driven, 9, 40_000)
    level = float(np.quantile(simulated(None, 10, 40_000).values["distance"], 0.99))
    value, error = probability_and_error(good.values["distance"] > level, good.weights)
    wrong, its_error = probability_and_error(tilted.values["distance"] > level, tilted.weights)
    assert wrong + SIGMAS * np.hypot(its_error, error) < value
    assert diagnose(tilted.values["distance"] > level, tilted.weights).poor is not None
    assert diagnose(good.values["distance"] > level, good.weights).poor is None


def test_only_a_path_without_weight_may_be_lost() -> None:
    values = {"distance": np.array([1.0, np.nan, 2.0]), "bad_debt": np.array([0.1, np.inf, 0.2])}
    slopes = {"distance": np.ones((3, 2))}
    left = finite(Piece(values, slopes, {"weight": np.array([0.5, 1e-20, 2.0])}))
    np.testing.assert_array_equal(left.values["distance"], [1.0, 0.0, 2.0])
    np.testing.assert_array_equal(left.values["bad_debt"], [0.1, 0.0, 0.2])
    np.testing.assert_array_equal(left.drawn["weight"], [0.5, 0.0, 2.0])
    for drawn in ({"weight": np.array([0.5, 1e-9, 2.0])}, {"weight": np.array([0.5, np.nan, 2.0])}, {}):
        with pytest.raises(UserError, match="no finite number"):
            finite(Piece(values, slopes, drawn))
