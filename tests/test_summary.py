"""Figures of a sample whose paths were not kept are those of all its paths."""

import numpy as np
import pytest

from calibrate.certify import hold
from calibrate.constraints import MEANS, SHORTFALLS, constraint_of
from calibrate.metrics import USER_COST, expected_shortfall, metrics_of, quantile
from calibrate.pieces import Piece, joined
from calibrate.rise_windows import METRICS as RISES
from calibrate.simulate import METRIC_FIELDS, Sample
from calibrate.summary import Summary, summarised

LEVEL = 0.99


def pieces_of(paths: int, *, loses: float, size: int = 1000) -> list[Piece]:
    """Made-up outcomes in pieces, single precision as simulated ones; a loss has an atom at zero and a heavy tail."""
    rng = np.random.default_rng(3)

    def fields(count: int) -> dict[str, np.ndarray]:
        values = {name: rng.pareto(3.0, count) * (rng.random(count) < loses) for name in (*METRIC_FIELDS, *RISES)}
        values |= {"distance": rng.normal(-2, 1, count), "initial_margin": 0.04 + 1e-4 * rng.normal(size=count)}
        return {name: value.astype(np.float32) for name, value in values.items()}

    return [Piece(fields(min(size, paths - first)), {}, {}) for first in range(0, paths, size)]


def remembered(pieces: list[Piece]) -> Sample:
    paths = sum(piece.paths for piece in pieces)
    return Sample(summarised(iter(pieces), paths, (USER_COST,), LEVEL, ("distance",)), {}, ())


@pytest.mark.parametrize(("paths", "loses"), [(60_500, 0.03), (60_500, 0.5), (60_500, 0.001), (60_500, 0.0), (30, 0.5)])
def test_every_metric_is_that_of_all_paths(paths: int, loses: float) -> None:
    pieces = pieces_of(paths, loses=loses)
    whole, summary = Sample(joined(pieces).values, {}, ()), remembered(pieces)
    assert summary.paths == paths
    expected, found = metrics_of(whole, LEVEL), metrics_of(summary, LEVEL)
    assert list(found) == list(expected)
    for name, estimate in expected.items():
        assert found[name].warning == estimate.warning, name
        figures = [(*part[:2], *part.interval) for part in (found[name], estimate)]
        np.testing.assert_allclose(*figures, rtol=1e-9, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("name", ["insolvency_probability", *MEANS, *SHORTFALLS])
@pytest.mark.parametrize("loses", [0.0, 0.002, 0.3])
def test_every_limit_holds_as_on_all_paths(name: str, loses: float) -> None:
    pieces, limit = pieces_of(40_000, loses=loses), constraint_of(name, 0.1, LEVEL)
    expected, found = (
        hold(limit, sample.values, None, 0.975)
        for sample in (Sample(joined(pieces).values, {}, ()), remembered(pieces))
    )
    assert found.satisfied == expected.satisfied
    assert found.upper >= found.estimate.value or found.upper == 1, "no limit lies below what it bounds"
    np.testing.assert_allclose((found.upper, *found.estimate[:2]), (expected.upper, *expected.estimate[:2]), rtol=1e-9)


def test_no_more_is_remembered_than_the_tail() -> None:
    loss = remembered(pieces_of(100_000, loses=0.3)).values["bad_debt"]
    assert isinstance(loss, Summary)
    # One path in a hundred, and six standard deviations of their number.
    assert 1_000 + 6 * np.sqrt(990) <= len(loss.largest) <= 1_000 + 6 * np.sqrt(990) + 4


def test_a_quantile_below_what_is_remembered_is_refused() -> None:
    loss = remembered(pieces_of(10_000, loses=0.3)).values["bad_debt"]
    for figure in (quantile, expected_shortfall):
        with pytest.raises(ValueError, match="below the tail that was kept"):
            figure(loss, 0.9)


def test_sums_stay_sharp_far_from_zero() -> None:
    """A mean of 1e6 with a spread of 1e-2: sums of squares lose all of it, squared deviations do not."""
    rng = np.random.default_rng(1)
    pieces = [Piece({"x": 1e6 + 1e-2 * rng.normal(size=777)}, {}, {}) for _ in range(100)]
    found = summarised(iter(pieces), 77_700, (), LEVEL, ())["x"]
    values = joined(pieces).values["x"]
    assert isinstance(found, Summary)
    np.testing.assert_allclose(found.standard_error, values.std(ddof=1) / np.sqrt(values.size), rtol=1e-6)
