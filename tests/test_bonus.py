"""A penalty that grows as health falls: what accounts pay, whom keepers come for, and the health that lending venues go by."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_brute_force import BY_HAND, along, assert_outcome, book

from calibrate.bonus import BonusLevels, bonus_levels, last_places
from calibrate.touched import Band
from calibrate.venue.incentive import HealthBonus

ONE = jnp.ones((1, 1))


def levels(top: float, bottom: float, lowest: float, rise: float) -> BonusLevels:
    return BonusLevels(top * ONE, bottom * ONE, jnp.asarray(lowest), jnp.asarray(rise))


# --- what is paid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cover", [0.0, 0.025, 0.05, 0.09])
def test_what_accounts_pay_is_the_sum_over_accounts(cover: float) -> None:
    """20,000 accounts between 0.02 and 0.08, one by one; prices of 0.9."""
    bonus, price = levels(0.06, 0.03, 0.01, 0.04), 0.9
    accounts = Band(0.02 * ONE, 0.08 * ONE, 5.0 * ONE).slice()
    collateral = np.linspace(0.02, 0.08, 20_001)[:-1] + 1.5e-6
    rate = np.interp(collateral, [0.03, 0.06], [0.05, 0.01])
    paid = np.minimum(rate * price, np.maximum(collateral - cover, 0.0))
    found = bonus.penalties(accounts, cover * ONE, price * ONE, accounts.lacking(cover * ONE))
    np.testing.assert_allclose(found, 0.3 * paid.mean(), rtol=1e-5, atol=1e-9)


def test_places_go_from_the_last_to_pay_the_lowest_to_the_first_to_pay_the_highest() -> None:
    bonus = levels(0.06, 0.03, 0.01, 0.04)
    for place, level, rate in ((-1.0, 0.09, 0.01), (0.0, 0.06, 0.01), (0.5, 0.045, 0.03), (1.0, 0.03, 0.05)):
        np.testing.assert_allclose(bonus.level(place * ONE), level, rtol=1e-6)
        np.testing.assert_allclose(bonus.place(level * ONE), place, atol=1e-6)
        np.testing.assert_allclose(bonus.rate(place * ONE), rate, rtol=1e-6)
    np.testing.assert_allclose(bonus.place(0.01 * ONE), 1.0)


def test_the_last_place_is_near_where_it_stops_paying() -> None:
    """Against bisection, for what there is to close with a kink, room that grows with the square of the penalty, and gas."""
    rng = np.random.default_rng(11)
    with jax.enable_x64(True):
        gas, depth, kink, below, above = (jnp.asarray(a) for a in rng.uniform(0.01, 1.0, (5, 500)))

        def spare(place: jnp.ndarray) -> jnp.ndarray:
            asked = jnp.where(place < kink, below * (kink - place) + above * (1 - kink), above * (1 - place))
            return depth * jnp.maximum(jnp.maximum(place, 0.0) - gas / 3, 0.0) ** 2 - asked

        both = lambda places: (spare(places[0]), spare(places[1]))  # noqa: E731
        low, high = -jnp.ones_like(gas), jnp.ones_like(gas)
        found = last_places(both, (low, low), (high, high))
        for _ in range(40):
            middle = (low + high) / 2
            short = spare(middle) < 0
            low, high = jnp.where(short, middle, low), jnp.where(short, high, middle)
    np.testing.assert_array_equal(found[0], found[1])
    off = np.abs(np.asarray(found[0] - high))
    assert off.mean() < 1e-2
    assert off.max() < 0.1


def test_the_last_place_is_an_end_where_all_pays_or_nothing_does() -> None:
    low, high = jnp.asarray([0.1, 0.1]), jnp.asarray([0.4, 0.4])
    rest = jnp.asarray([1.0, -1.0])
    longs, shorts = last_places(lambda _: (rest, -rest), (low, low), (high, high))
    np.testing.assert_allclose(longs, [0.1, 0.4], rtol=1e-6)
    np.testing.assert_allclose(shorts, [0.4, 0.1], rtol=1e-6)


# --- whom keepers come for ------------------------------------------------------------------------------------------------

FROM_NOTHING = replace(
    BY_HAND, depth=1e30, unlimited_keepers=False, gas=0.005, bonus_lowest_part=0.0, bonus_from=1.0, bonus_to=0.0
)


def test_keepers_come_for_whoever_pays_their_cost() -> None:
    # At 0.90 the first has nothing left and pays 2 %, half of it to keepers, more than their 0.5 %; the second has 0.03 / 0.90,
    # two thirds of its margin, and pays a third: they leave it, though they gain by both together. At 0.88 it has 0.01 / 0.88, a
    # health of 0.227, and pays 1.545 %.
    accounts = book((1, 0.10, 0.4, 0), (1, 0.13, 0.6, 0))
    assert_outcome(along(FROM_NOTHING, accounts, [math.log(0.90)]), {"liquidated_share": 0.4, "penalty": 0.0})
    rate = 0.02 * (1 - 0.01 / 0.88 / 0.05)
    assert rate / 2 > 0.005
    second = along(FROM_NOTHING, accounts, [math.log(0.90), math.log(0.88)])
    assert_outcome(second, {"liquidated_share": 1.0, "penalty": 0.6 * min(rate * 0.88, 0.01)})


def test_keepers_stop_where_the_next_account_does_not_pay_for_the_displacement() -> None:
    # The first pays 2 %: 1 % less gas moves the price as far as 0.0225 of a depth of 0.36 / 16, where 0.005 is Y / 4; all of its
    # 0.01 * 0.90 is within that. The second pays 1.33 %: for 0.00167, Y / 12, the market takes 1/144 of the depth, 0.0025, which
    # is sold already.
    rules = replace(FROM_NOTHING, depth=0.36)
    accounts = book((1, 0.10, 0.01, 0), (1, 0.115, 0.2, 1), (1, 0.5, 0.79, 0))
    assert_outcome(along(rules, accounts, [math.log(0.90)]), {"liquidated_share": 0.01})
    # By itself as much of it is sold as that.
    alone = along(rules, book((1, 0.115, 0.2, 1), (1, 0.5, 0.8, 0)), [math.log(0.90)])
    assert alone["liquidated_share"] == pytest.approx(0.36 / 144 / 0.90)


# --- lending --------------------------------------------------------------------------------------------------------------


def rate_at(bonus: HealthBonus, threshold: float, penalty: float, health: float) -> float:
    """What an account of a lending market pays: collateral worth 1 carries a debt of `threshold / health`."""
    with jax.enable_x64(True):
        made = bonus_levels(bonus, jnp.asarray(penalty), 0.0 * ONE, ONE, jnp.asarray(1 - threshold))
        equity = jnp.full((1, 1), 1 - threshold / health, np.float64)
        return float(made.rate(made.place(equity))[0, 0])


@pytest.mark.parametrize("threshold", [0.75, 0.9])
@pytest.mark.parametrize("most", [0.05, 0.15])
def test_eulers_discount_is_one_less_health(threshold: float, most: float) -> None:
    """`Liquidation.sol`: 1 - health, at most the maximum, whatever threshold and maximum are. The straight line in equity is below
    it by no more than (1 - sqrt(1 - most))^2, and by as much where health is the root of 1 - most."""
    with jax.enable_x64(True):
        bonus = HealthBonus(jnp.asarray(1.0), None, jnp.asarray(1.0), lowest_part=jnp.asarray(0.0), lending=True)
    short = [min(1 - h, most) - rate_at(bonus, threshold, most, h) for h in np.linspace(0.7, 1.0, 61)]
    widest = (1 - math.sqrt(1 - most)) ** 2
    assert min(short) > -1e-7
    assert max(short) < widest + 1e-7
    root = math.sqrt(1 - most)
    assert 1 - root - rate_at(bonus, threshold, most, root) == pytest.approx(widest, abs=1e-6)
    for health, due in ((1.0, 0.0), (1 - most, most), (0.5, most)):
        assert rate_at(bonus, threshold, most, health) == pytest.approx(due, abs=1e-7)


def test_a_bonus_may_grow_from_a_part_of_it() -> None:
    """From 80 % of 4 % at a health of 1 to all of it at 0.9; at most (1 - sqrt(0.9)) / (1 + sqrt(0.9)) of the rise too low."""
    with jax.enable_x64(True):
        bonus = HealthBonus(jnp.asarray(1.0), jnp.asarray(0.9), lowest_part=jnp.asarray(0.8), lending=True)
    due = lambda h: 0.04 * (0.8 + 0.2 * min((1 - h) / 0.1, 1.0))  # noqa: E731
    short = [due(h) - rate_at(bonus, 0.8, 0.04, h) for h in np.linspace(0.8, 1.0, 81)]
    assert min(short) > -1e-8
    assert max(short) == pytest.approx(0.008 * (1 - math.sqrt(0.9)) / (1 + math.sqrt(0.9)), rel=1e-2)
