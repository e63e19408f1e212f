"""Derivatives along a path against difference quotients, for rules that have several kinks: all at work in one venue."""

from dataclasses import replace

import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.gradient import CHECKED_FIELDS, check_gradients

BASE = replace(Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300), steps=60).but(oracle="exact", volatility=1.3)
VENUES = {
    "orders up to a limit, to a target, with a rest, under a cap": {
        "fill": "limit", "limit": 0.004, "close": "target", "close_target": 1.25, "full_below": 0.3, "cooldown_steps": 3,
        "close_cap": 0.02, "close_cap_refill_per_year": 0.02 * 24 * 365, "dust": 0.2,
    },
    "to a buffer with a ramp, whole where little is left": {
        "close": "buffer", "close_buffer": 0.02, "close_initial": 0.3, "close_ramp_steps": 6.0, "cooldown_steps": 2, "dust": 0.1,
    },
    "half, whole where little is left": {"close": "fraction", "close_fraction": 0.5, "dust": 0.3},
}  # fmt: skip
FAST = next(iter(VENUES))
NAMES = ("base_margin", "penalty")


@pytest.mark.parametrize(
    "name", [name if name == FAST else pytest.param(name, marks=pytest.mark.slow) for name in VENUES]
)
def test_derivatives_are_limits_of_difference_quotients(name: str) -> None:
    case = BASE.but(**VENUES[name])
    rows = check_gradients(case.scenario(), case.parameters(), NAMES, seed=5, paths=256, bump=1e-7)
    for row in rows:
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
    moved = {row.metric for row in rows if row.pathwise}
    assert moved == set(CHECKED_FIELDS), "everything should matter"
