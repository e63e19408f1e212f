"""The engine against closed forms and quadrature (`truth.py`), through the public simulation.

Every mechanism that the formulas leave out is switched off. An account's fate is averaged over bands of collateral:
the truth is the same formula integrated over the band. Where the delay is continuous, steps are chosen so that it
lasts a whole number of steps and a half, which is what a trigger within a step and a close at the end of one make on
average; the rest is of second order and measured below a tenth of a per cent. Runs end one delay after the formula's
horizon, since accounts triggered before it are closed then.
"""

from functools import partial

import jax
import numpy as np
import pytest
import truth
from statistical import assert_close, assert_mean
from venues import DAY, Case, TestBook, switched_off

from calibrate import front
from calibrate.simulate import simulate

FIELDS = ("liquidated_share", "insolvent_share", "bad_debt", "open_deficit")


def exponential_bands(low: float, mean: float, number: int) -> list[tuple[float, float, float]]:
    """The shifted exponential as bands of even density, as the engine's books are made."""
    shares = np.concatenate([1 - (1 - np.linspace(0, 1, number)) ** 1.5 * (1 - 1e-3) - 1e-3, [1.0]])
    shares[0] = 0.0
    levels = low - mean * np.log1p(-np.minimum(shares, 0.9995))
    return [
        (float(a), float(b), float(q - p))
        for a, b, p, q in zip(levels[:-1], levels[1:], shares[:-1], shares[1:], strict=True)
    ]


POPULATION = exponential_bands(0.04, 0.08, 20)
AROUND_TENFOLD = [(0.08, 0.12, 1.0)]

# bands, margin, volatility, minutes late, steps late, paths, and the relative error that these many paths show.
CONTINUOUS = {
    "population, margin 1 %": (POPULATION, 0.01, 0.8, 60, 10, 400_000, 0.08),
    "around 25-fold leverage, margin 1 %": ([(0.03, 0.05, 1.0)], 0.01, 1.0, 30, 10, 200_000, 0.1),
}
OBSERVED = {
    "tenfold, 24 looks, margin 1 %": (AROUND_TENFOLD, 0.01, 24, 1, 0.0, 1_500_000, 0.1),
    "tenfold, 48 looks, two late, haircut": (AROUND_TENFOLD, 0.02, 48, 2, 0.005, 1_500_000, 0.1),
}
SLOW = {
    "population, margin 1 %": (POPULATION, 0.01, 0.8, 60, 10, 18_000_000, 0.01),
    "around 25-fold leverage, margin 1 %": ([(0.03, 0.05, 1.0)], 0.01, 1.0, 30, 10, 16_000_000, 0.01),
    "one account at 25-fold leverage": ([(0.03999, 0.04001, 1.0)], 0.01, 1.0, 30, 10, 2_000_000, 0.05),
}


def continuous_case(bands, margin, volatility, minutes, steps_late) -> tuple[Case, truth.Setting]:
    step_years = minutes / (steps_late + 0.5) / 1440 * DAY
    steps = round(DAY / step_years)
    rules = switched_off(
        volatility=volatility,
        step_years=step_years,
        margin=margin,
        keeper_delay_steps=steps_late,
        oracle="continuous",
    )
    setting = truth.Setting(
        margin=margin, volatility=volatility, horizon_years=steps * step_years, latency_years=minutes / 1440 * DAY
    )
    return Case(rules, TestBook(((1, 1.0, tuple(bands)),)), steps + steps_late, np.float32), setting


def observed_case(bands, margin, looks, late, haircut) -> tuple[Case, truth.Setting]:
    rules = switched_off(
        volatility=0.8, step_years=DAY / looks, margin=margin, keeper_delay_steps=late, half_spread=haircut
    )
    setting = truth.Setting(
        margin=margin,
        volatility=0.8,
        horizon_years=DAY,
        latency_years=late * DAY / looks,
        observations=looks,
        haircut=haircut,
    )
    return Case(rules, TestBook(((1, 1.0, tuple(bands)),)), looks + late, np.float32), setting


def realised(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outcomes under the formulas' names: what was closed, without what is still open at the end."""
    return {
        "liquidated": values["liquidated_share"],
        "insolvent": values["insolvent_share"],
        "bad_debt": values["bad_debt"] - values["open_deficit"],
    }


class Moments:
    """Mean and standard error, batch by batch, so that a large sample need not be held."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, samples: np.ndarray) -> None:
        samples = np.asarray(samples, np.float64)
        self.count += samples.size
        self.sum += samples.sum()
        self.squares += (samples**2).sum()

    @property
    def mean(self) -> float:
        return self.sum / self.count

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(max(self.squares / self.count - self.mean**2, 0.0) / self.count))


def assert_truth(
    case: Case, setting: truth.Setting, bands, paths: int, *, resolution: float, smooth: bool = True
) -> None:
    """Values, and where the book is smooth derivatives in margin and volatility, meet the formulas."""
    found: dict[tuple[str, str], Moments] = {}
    for first in range(0, paths, 500_000):
        sample = simulate(
            case.scenario(),
            case.parameters(),
            seed=20,
            paths=np.arange(first, min(first + 500_000, paths)),
            fields=FIELDS,
            derivatives=("base_margin", "volatility_scale"),
        )
        for name, outcome in realised(sample.values).items():
            found.setdefault(("value", name), Moments()).add(outcome)
        for name, slopes in realised(sample.derivatives).items():
            found.setdefault(("by margin", name), Moments()).add(slopes[:, 0])
            found.setdefault(("by volatility", name), Moments()).add(slopes[:, 1] / setting.volatility)
    expected = {
        "value": truth.over_bands(partial(truth.loss, setting), bands),
        "by margin": truth.over_bands(partial(truth.loss_by_margin, setting), bands),
        "by volatility": truth.over_bands(partial(truth.loss_by_volatility, setting), bands),
    }
    for (kind, name), moments in found.items():
        true = float(getattr(expected[kind], name))
        if kind == "value" or smooth:
            assert_close(moments.mean, moments.standard_error, true, resolution=resolution * abs(true))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_trigger_with_latency_meets_first_passage_theory(name: str) -> None:
    bands, *description, paths, resolution = CONTINUOUS[name]
    assert_truth(*continuous_case(bands, *description), bands, paths, resolution=resolution)


@pytest.mark.parametrize("name", OBSERVED)
def test_a_discrete_oracle_with_delay_meets_the_quadrature(name: str) -> None:
    bands, *description, paths, resolution = OBSERVED[name]
    assert_truth(*observed_case(bands, *description), bands, paths, resolution=resolution)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_first_passage_theory_is_met_to_one_per_cent(name: str) -> None:
    bands, *description, paths, resolution = SLOW[name]
    assert_truth(*continuous_case(bands, *description), bands, paths, resolution=resolution, smooth="one" not in name)


def test_the_banded_population_is_the_exponential_one_to_a_per_cent() -> None:
    """The bands are exact for themselves; this ties them to the population of the reference table."""
    _, setting = continuous_case(POPULATION, 0.01, 0.8, 60, 10)
    losses = partial(truth.loss, setting)
    banded, exponential = truth.over_bands(losses, POPULATION), truth.over_shifted_exponential(losses, 0.04, 0.08)
    np.testing.assert_allclose(banded[:2], exponential[:2], rtol=0.01)


def test_a_sigmoid_in_place_of_the_front_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: relaxed by one step's width, as surrogate gradients do, the engine must miss the truth."""
    bands, *description, _, _ = CONTINUOUS["population, margin 1 %"]
    case, setting = continuous_case(bands, *description)
    width = 0.8 * np.sqrt(case.rules.step_years)
    monkeypatch.setattr(front, "advance", lambda a, b: width * jax.numpy.logaddexp(a / width, b / width))
    jax.clear_caches()
    try:
        with pytest.raises(AssertionError, match="standard errors from"):
            assert_truth(case, setting, bands, 40_000, resolution=1.0)
    finally:
        jax.clear_caches()


def test_jumps_cross_a_barrier_as_often_as_kou_and_wang_say() -> None:
    """Shorts around the level that a rise of 0.3 in the log-price triggers; one year, watched continuously."""
    margin, steps = 0.01, 500
    levels = [float(np.exp(b) * (1 + margin) - 1) for b in (0.27, 0.33)]
    rules = switched_off(volatility=0.2, step_years=1 / steps, margin=margin, keeper_delay_steps=0, oracle="continuous")
    up, down, p = 0.02, 0.03, 0.5
    # The formula's drift is that of the log-price; ours is that of the price, so the compensators are added back.
    compensator = 3.0 * (p * up / (1 - up) - (1 - p) * down / (1 + down)) + 0.02
    rules = Case(rules, TestBook(((-1, 1.0, ((levels[0], levels[1], 1.0),)),)), steps, np.float32).but(
        jumps_per_year=3.0,
        jump_volatility_exponent=0.0,
        jump_up_probability=p,
        jump_up_mean=up,
        jump_down_mean=down,
        drift=0.1 + compensator,
    )
    sample = simulate(rules.scenario(), rules.parameters(), seed=7, paths=400_000, fields=("liquidated_share",))
    nodes, weights = np.polynomial.legendre.leggauss(5)
    collateral = levels[0] + (nodes + 1) / 2 * (levels[1] - levels[0])
    barriers = np.log((1 + collateral) / (1 + margin))
    true = sum(
        w / 2 * truth.kou_passage_probability(
            b, 1.0, log_drift=0.1, volatility=0.2, jumps_per_year=3.0, up_probability=p, up_rate=1 / up, down_rate=1 / down
        )
        for b, w in zip(barriers, weights, strict=True)
    )  # fmt: skip
    assert_mean(sample.values["liquidated_share"], float(true), resolution=0.03 * float(true))
