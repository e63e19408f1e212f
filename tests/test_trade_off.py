"""Beaten points, the area under the curve and the distance to it, on curves whose answers are known by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrate.trade_off import Standing, curve, dominated, hypervolume, standings

Z = 1.959963984540054  # of a 95 % interval


def row(
    leverage: float, probability: float, *, error: float = 0.0, certified: bool = True, label: str = "frontier",
    margin_error: float = 0.0, high: float | None = None, cost: float = 0.0, cost_error: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    return {
        "label": label,
        "insolvency_probability": probability,
        "standard_error": error,
        "low": max(probability - Z * error, 0.0),
        "high": probability + Z * error if high is None else high,
        "margin_per_oi_standard_error": margin_error,
        "max_leverage": leverage,
        "user_cost": cost,
        "user_cost_standard_error": cost_error,
        "certified": certified,
    }


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


# A tenth of the probability for every five turns of leverage less.
STRAIGHT = (row(11, 1e-2), row(6, 1e-3), row(1, 1e-4))


def standing(named: dict[str, Any], *points: dict[str, Any]) -> Standing:
    (found,) = standings(table(*points, named))
    return found


# --- dominated ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "beaten"),
    [
        (row(9, 3e-3, error=1e-4), True),  # less leverage, more insolvency
        (row(10, 3e-3, error=1e-4), True),  # as much leverage, more insolvency
        (row(9, 1e-3, error=1e-4), False),  # less leverage at the same probability: the bars overlap
        (row(9, 1.3e-3, error=1e-4), False),  # bars overlap, though the estimate is worse
        (row(10, 1e-3, error=1e-4), False),  # equal
        (row(11, 3e-3, error=1e-4), False),  # more leverage
        (row(9, 5e-4, error=1e-5), False),  # safer
        (row(9, 0.0, high=1e-3), False),  # never seen
    ],
)
def test_a_point_is_beaten_on_both_counts_or_not_at_all(point: dict[str, Any], beaten: bool) -> None:
    assert dominated(table(row(10, 1e-3, error=1e-4), point)).tolist() == [False, beaten]


def test_bars_that_touch_beat_nobody() -> None:
    touching = row(9, 2e-3) | {"low": 1.5e-3}
    assert not dominated(table(row(10, 1e-3, high=1.5e-3), touching)).any()
    assert dominated(table(row(10, 1e-3, high=1.4999e-3), touching)).tolist() == [False, True]


def test_only_the_sweep_beats_and_everyone_may_be_beaten() -> None:
    points = table(row(10, 1e-3), row(9, 2e-3, label="incumbent"), row(12, 1e-4, label="bold"), row(8, 5e-3))
    assert dominated(points).tolist() == [False, True, False, True]
    assert not dominated(points.iloc[1:3]).any(), "without a sweep nobody is beaten"


# --- the curve ------------------------------------------------------------------------------------------------------------


def test_the_curve_rises_and_leaves_out_what_was_refused() -> None:
    points = table(
        row(11, 1e-2), row(9, 2e-2), row(6, 1e-3), row(6, 2e-3), row(4, 1e-3), row(3, 1e-4, certified=False),
        row(2, 0.0, high=5e-5), row(1, 0.0, high=5e-5), row(20, 1e-6, label="incumbent"),
    )  # fmt: skip
    found = curve(points)
    assert found["max_leverage"].tolist() == [2, 6, 11]
    assert found["shown"].tolist() == [5e-5, 1e-3, 1e-2]


# --- the area -------------------------------------------------------------------------------------------------------------


def test_the_area_of_three_steps_is_known() -> None:
    # Decades below 0.1: three up to a leverage of 2, two up to 5, one up to 10.
    points = table(row(10, 1e-2), row(5, 1e-3), row(2, 1e-4))
    area = hypervolume(points, 0.1)
    assert area.value == pytest.approx(3 * 1 + 2 * 3 + 1 * 5)
    assert area.standard_error == 0
    assert area.interval == (area.value, area.value)
    assert area.warning is None


@pytest.mark.parametrize(
    ("point", "gain"),
    [
        (row(4, 2e-3), 0.0),  # beaten
        (row(0.5, 1e-6), 0.0),  # less than no leverage
        (row(12, 0.2), 0.0),  # looser than the corner
        (row(12, 1e-4, certified=False), 0.0),
        (row(12, 1e-4, label="alternative"), 0.0),
        (row(12, 1e-2), 2.0),  # two turns more, one decade high
        (row(2, 0.0, high=1e-5), 1.0),  # never seen: counts at its upper limit
    ],
)
def test_a_point_adds_what_it_alone_reaches(point: dict[str, Any], gain: float) -> None:
    points = [row(10, 1e-2), row(5, 1e-3), row(2, 1e-4)]
    before, after = (hypervolume(table(*rows), 0.1).value for rows in (points, [*points, point]))
    assert after - before == pytest.approx(gain)


def test_the_corner_is_the_loosest_tolerance() -> None:
    points = table(*STRAIGHT)
    assert hypervolume(points, 1.0).value - hypervolume(points, 0.1).value == pytest.approx(10)


def test_without_a_certified_point_there_is_no_area() -> None:
    area = hypervolume(table(row(10, 1e-2, certified=False)), 0.1)
    assert (area.value, area.standard_error) == (0, 0)
    assert area.warning == "no point of the sweep was certified"


def test_the_error_of_the_area_is_what_the_area_changes_by_when_all_points_err_in_one_direction() -> None:
    """Every probability a small share lower, every margin a little lower: the area grows by the share of its standard error."""
    small, probability_errors, margin_errors = 1e-6, (1e-3, 2e-4, 4e-5), (2e-4, 5e-4, 9e-4)
    places = ((10, 1e-2), (5, 1e-3), (2, 1e-4))
    rows = [
        row(*place, error=error, margin_error=margin_error)
        for place, error, margin_error in zip(places, probability_errors, margin_errors, strict=True)
    ]
    moved = [
        row(1 / (1 / leverage - small * margin_error), probability - small * error)
        for (leverage, probability), error, margin_error in zip(places, probability_errors, margin_errors, strict=True)
    ]
    area = hypervolume(table(*rows), 0.1)
    grown = hypervolume(table(*moved), 0.1).value - area.value
    assert area.standard_error == pytest.approx(grown / small, rel=1e-4)
    assert area.interval == pytest.approx((area.value - Z * area.standard_error, area.value + Z * area.standard_error))


def test_the_error_of_the_area_covers_points_that_share_their_paths() -> None:
    """Counts on shared paths: each tighter point fails on some of the paths that the looser one fails on. Over 500 samples the
    area spreads no more than its standard error says, which it would if the points were taken to have nothing in common; nor so
    much less that the error would be useless."""
    rng, paths, places = np.random.default_rng(5), 100_000, ((10, 1e-2), (5, 1e-3), (2, 1e-4))
    areas = []
    for _ in range(500):
        events, rows = paths, []
        for (leverage, probability), looser in zip(places, (1.0, 1e-2, 1e-3), strict=True):
            events = rng.binomial(events, probability / looser)
            rows.append(row(leverage, events / paths, high=4e-5))
        areas.append(hypervolume(table(*rows), 0.1).value)
    errors = [math.sqrt(probability / paths) for _, probability in places]
    said = hypervolume(
        table(*(row(*place, error=error) for place, error in zip(places, errors, strict=True))), 0.1
    ).standard_error
    assert 0.6 * said < np.std(areas) < said


# --- standings ------------------------------------------------------------------------------------------------------------


def test_a_policy_above_the_line_has_known_distances() -> None:
    found = standing(row(6, 1e-2 / math.sqrt(10), label="incumbent"), *STRAIGHT)
    assert found.label == "incumbent"
    assert found.more_leverage is not None
    assert found.times_safer is not None
    assert found.more_leverage.value == pytest.approx(8.5 - 6)
    assert found.times_safer.value == pytest.approx(math.sqrt(10))
    assert found.dominated


def test_a_policy_below_the_line_has_negative_distance() -> None:
    found = standing(row(8.5, 1e-3, label="lucky"), *STRAIGHT)
    assert found.more_leverage is not None
    assert found.times_safer is not None
    assert found.more_leverage.value == pytest.approx(6 - 8.5)
    assert found.times_safer.value == pytest.approx(1 / math.sqrt(10))
    assert not found.dominated


@pytest.mark.parametrize("point", STRAIGHT)
def test_a_policy_on_a_point_of_the_curve_is_no_way_from_it(point: dict[str, Any]) -> None:
    found = standing(point | {"label": "same"}, *STRAIGHT)
    assert found.more_leverage is not None
    assert found.times_safer is not None
    assert found.more_leverage.value == pytest.approx(0, abs=1e-12)
    assert found.times_safer.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ((12, 5e-3), (True, False)),  # more leverage than the sweep
        ((0.5, 5e-3), (True, False)),  # less
        ((6, 2e-2), (False, True)),  # more often insolvent than the sweep
        ((6, 5e-5), (False, True)),  # less often
        ((12, 2e-2), (False, False)),
        ((6, 0.0), (False, False)),  # never seen
    ],
)
def test_nothing_is_said_beyond_the_sweep(place: tuple[float, float], known: tuple[bool, bool]) -> None:
    found = standing(row(*place, label="far", high=1e-2), *STRAIGHT)
    assert (found.more_leverage is not None, found.times_safer is not None) == known


@pytest.mark.parametrize("points", [(), (row(6, 1e-3),), (row(6, 1e-3), row(5, 0.0, high=1e-4))])
def test_a_single_point_is_no_curve(points: tuple[dict[str, Any], ...]) -> None:
    found = standing(row(6, 1e-3, label="incumbent"), *points)
    assert (found.more_leverage, found.times_safer) == (None, None)


def test_the_errors_of_a_distance_are_propagated_from_all_that_it_rests_on() -> None:
    """A quarter of the way along a stretch. The ends add up, the policy's own error is as if it had nothing in common."""
    ends = row(6, 1e-3, error=1e-4, margin_error=1e-3), row(11, 1e-2, error=5e-4, margin_error=2e-4)
    own = row(7.25, 3e-3, error=3e-4, label="incumbent", margin_error=4e-4)
    slope = math.log(10) / 5
    line = 0.75 * (0.1 + slope * 1e-3 * 36) + 0.25 * (0.05 + slope * 2e-4 * 121)
    error = math.hypot(line, 0.1 + slope * 4e-4 * 7.25**2)
    found = standing(own, *ends)
    assert found.max_leverage.standard_error == pytest.approx(4e-4 * 7.25**2)
    assert found.insolvency_probability.interval == pytest.approx((3e-3 - Z * 3e-4, 3e-3 + Z * 3e-4))
    assert found.times_safer is not None
    times = 3e-3 / (1e-3 * 10**0.25)
    assert found.times_safer.value == pytest.approx(times)
    assert found.times_safer.standard_error == pytest.approx(times * error)
    assert found.times_safer.interval == pytest.approx((times * math.exp(-Z * error), times * math.exp(Z * error)))
    # At its probability it is another share of the way along.
    along = math.log10(3)
    line = (1 - along) * (0.1 + slope * 1e-3 * 36) + along * (0.05 + slope * 2e-4 * 121)
    error = math.hypot(line, 0.1 + slope * 4e-4 * 7.25**2) / slope
    assert found.more_leverage is not None
    assert found.more_leverage.value == pytest.approx(6 + 5 * along - 7.25)
    assert found.more_leverage.standard_error == pytest.approx(error)


def test_what_users_pay_is_read_off_the_curve_at_the_same_probability() -> None:
    """Half of the way along a stretch, a turn of leverage costs users 2e-4; where half of the way is, is uncertain by a tenth of
    the logarithm."""
    ends = row(6, 1e-3, cost=3e-3, cost_error=2e-5), row(11, 1e-2, cost=4e-3, cost_error=4e-5)
    probability = 1e-3 * math.sqrt(10)
    found = standing(row(8, probability, error=0.1 * probability, cost=9e-3, cost_error=1e-4, label="dear"), *ends)
    assert found.user_cost.value == 9e-3
    assert found.user_cost.standard_error == 1e-4
    assert found.user_cost_there is not None
    assert found.user_cost_there.value == pytest.approx(3.5e-3)
    assert found.user_cost_there.standard_error == pytest.approx(3e-5 + 2e-4 * 0.1 * 5 / math.log(10))
    assert standing(row(8, 2e-2, label="beyond"), *ends).user_cost_there is None


def test_every_named_policy_stands_somewhere_in_the_order_of_the_table() -> None:
    names = ["incumbent", "recommended", "wide"]
    points = table(*STRAIGHT, *(row(5, 2e-3, label=name) for name in names))
    found = standings(points)
    assert [entry.label for entry in found] == names
    assert found[0].as_json()["more_leverage"] == found[1].as_json()["more_leverage"]
    assert set(found[0].as_json()) == set(Standing._fields)
