"""Auctions whose price falls until someone takes the position: against accounts followed one by one, and their derivatives."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.auctions import at_one_pace, at_one_price
from calibrate.closes import execution_at
from calibrate.gradient import CHECKED_FIELDS, check_gradients
from calibrate.offers import Offers, asked, offered, start_offers
from calibrate.simulate import Outcome, Scenario, simulate
from calibrate.touched import Moments
from calibrate.venue.auction import Auction, stairs

# From 1.5 % above the oracle price down by 0.25 % each step of two minutes, anew after a dozen.
PRICES = tuple(np.log(stairs(120.0 * np.arange(12), start=1.015, fall=0.0025, every_s=120.0)))
BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300).but(recheck=False, auction=PRICES)
VENUES = {
    "room for little on offer": {"auction_most": 0.01},
    "three steps share a place": {},
    "room for all": {},
    "offers that start anew, deleveraging": {"auction": PRICES[:8:2], "deleverages": True, "gas_exponent": 1.0},
}
FAST = "three steps share a place"
# How many steps' offers share a place: one, unless told. Twelve places or fewer.
WIDTHS = {FAST: 3}
# Largest differences of means allowed, relative to the accounts'. Measured with 400 accounts a cohort: bad debt within 0.1 % where
# few accounts start at one step; where many do 1 %, and 3 % where offers start anew every four steps, which blurs who is left.
WITHIN = {"bad_debt": 0.04, "liquidated": 0.02, "liquidated_share": 0.02, "collateral_closed": 0.02, "slippage": 0.03}
# On the worst paths few are closed needlessly, so that four of them say little of it (+23 %, with a standard error of 15 %, where
# offers start anew every four steps: over all 400 paths +0.12 %, with one of 0.10 %). It is judged on every twentieth path too.
NEEDLESS_WITHIN = 0.05


def sharing(case: Case, width: int) -> Scenario:
    """Its scenario, with offers of so many steps in one place."""
    scenario = case.scenario()
    return eqx.tree_at(lambda s: s.venue.auction, scenario, replace(scenario.venue.auction, width=width))


@pytest.mark.parametrize(
    "name", [name if name == FAST else pytest.param(name, marks=pytest.mark.slow) for name in VENUES]
)
def test_what_is_taken_is_that_of_accounts_followed_one_by_one(name: str) -> None:
    case = BASE.but(**VENUES[name])
    scenario = sharing(case, WIDTHS.get(name, 1))
    v = simulate(scenario, case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:4])
    followed = np.union1d(worst, np.arange(0, 400, 20))
    needless = case.brute_force(seed=3, paths=followed, accounts=400)
    accounts = {field: values[np.isin(followed, worst)] for field, values in needless.items()}
    assert v["bad_debt"][worst].mean() > 1e-3, "these paths should test losses"
    ratio = v["false_liquidation"][followed].mean() / needless["false_liquidation"].mean() - 1
    assert abs(ratio) < NEEDLESS_WITHIN, f"false liquidations are off by {ratio:.2%}"
    for field, within in WITHIN.items():
        ratio = v[field][worst].mean() / accounts[field].mean() - 1
        print(f"{name}: {field} {ratio:+.2%}")
        assert abs(ratio) < within, f"{field} is off by {ratio:.2%}"
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])
    realised = v["bad_debt"] - v["open_deficit"]
    put_in = v["collateral_closed"] + v["pnl_closed"] + realised
    np.testing.assert_allclose(put_in, v["returned"] + v["penalty"], rtol=0, atol=1e-12)
    assert (v["liquidated_share"] <= 1 + 1e-12).all()


def test_offers_share_the_market_as_far_as_they_are_worth_it() -> None:
    """Of volumes 0.2, 0.3 and 0.1 with room for 0.1, 0.3 and nothing: the first 0.1 is shared, the next 0.2 is the second's."""
    column = lambda *values: jnp.asarray(values)[:, None, None]  # noqa: E731
    volume = column(0.1, 0.2, 0.3)
    part = at_one_pace(column(0.0, 0.1, 0.3), volume)
    np.testing.assert_allclose(part[:, 0, 0], [0.0, 0.2, 0.2 + 2 / 3], rtol=1e-6)
    assert float(at_one_pace(column(0.0, 0.1, 0.6), volume)[2, 0, 0]) == 1.0
    # Whatever the order of the places, and all that there is room for is sold unless offers run out.
    rng = np.random.default_rng(1)
    rooms, volumes = rng.uniform(0, 0.4, (2, 7, 2, 3))
    parts = np.asarray(at_one_pace(jnp.asarray(rooms), jnp.asarray(volumes)))
    order = rng.permutation(7)
    shuffled = at_one_pace(jnp.asarray(rooms[order]), jnp.asarray(volumes[order]))
    np.testing.assert_allclose(shuffled, parts[order], rtol=1e-5)
    sold = (parts * volumes).sum(axis=0)
    most = (parts < 1).all(axis=0)
    np.testing.assert_allclose(sold[most], rooms.max(axis=0)[most], rtol=1e-5)
    assert most.any()
    assert (sold <= rooms.max(axis=0) * (1 + 1e-5)).all()


def test_derivatives_are_limits_of_difference_quotients() -> None:
    case = replace(BASE, steps=60).but(oracle="exact", volatility=1.3, auction=PRICES[1::2], auction_most=0.02)
    rows = check_gradients(
        sharing(case, 2), case.parameters(), ("base_margin", "penalty"), seed=5, paths=256, bump=1e-7
    )
    for row in rows:
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
    assert {row.metric for row in rows if row.pathwise} == set(CHECKED_FIELDS), "everything should matter"


def asked_over_time(auction: Auction, arriving: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray, Offers]:
    """What is asked at each step in the first place, for longs and for shorts, as shares arrive at log-prices of the oracle."""
    book = LONGS_AND_SHORTS.continuum()
    nobody, like = jnp.zeros((3, 1)), jnp.zeros((3, 1))
    offers, prices = start_offers(auction, like), []
    for step, (share, oracle) in enumerate(arriving):
        index = jnp.asarray(step)
        offers = offered(auction, offers, Moments(nobody + share, nobody, nobody), index, jnp.asarray([oracle]), book)
        prices.append(asked(auction, offers, index)[0, :, 0])
    return *np.asarray(prices).T, offers


def test_offers_that_share_a_place_are_asked_their_mean_and_fall_as_one() -> None:
    """Two shares, then one a step later at an oracle 3 % lower: both are asked the mean by volume, which falls by a stair a step,
    and start anew together when the place comes round."""
    auction = Auction(jnp.log(1.1) - 0.01 * jnp.arange(6.0), width=2)
    longs, shorts, offers = asked_over_time(auction, [(0.2, 0.0), (0.1, -0.03), *[(0.0, -0.05)] * 5])
    start, fallen = np.log(1.1), 0.01
    together = [(2 * (start - fallen) + start - 0.03) / 3 - k * fallen for k in range(5)]
    np.testing.assert_allclose(longs, [start, *together, start - 0.05], rtol=0, atol=1e-7)
    together = [(2 * (fallen - start) - start - 0.03) / 3 + k * fallen for k in range(5)]
    np.testing.assert_allclose(shorts, [-start, *together, -start - 0.05], rtol=0, atol=1e-7)
    np.testing.assert_allclose(offers.accounts.share[:, 0, 0], [0.3, 0.0, 0.0], atol=1e-7)


def test_offers_that_have_a_place_for_themselves_go_down_their_own_stairs() -> None:
    """Stairs of 1 % every 90 s seen every two minutes fall by 1, 1 and 2 %: who starts a step or two after the place's first step
    misses none of them, and starts anew with the place."""
    multiples = jnp.log(stairs(120.0 * np.arange(9), start=1.1, fall=0.01, every_s=90.0))
    for late in range(3):
        arriving = [(0.1 if step == late else 0.0, 0.02 if step == late else 0.5) for step in range(10)]
        longs, shorts, _ = asked_over_time(Auction(multiples, width=3), arriving)
        own = np.asarray(multiples)[: 9 - late]
        np.testing.assert_allclose(longs[late:], [*(0.02 + own), 0.5 + multiples[0]], rtol=0, atol=1e-6)
        np.testing.assert_allclose(shorts[late:], [*(0.02 - own), 0.5 - multiples[0]], rtol=0, atol=1e-6)


def test_what_is_taken_at_several_prices_keeps_what_its_accounts_are_worth() -> None:
    """Three places, of which one is empty: at one price collateral and two moments of equity are theirs."""
    book, rng = LONGS_AND_SHORTS.continuum(), np.random.default_rng(2)
    share, collateral = rng.uniform(0.1, 0.4, (2, 3, 3, 1))
    share[1] = collateral[1] = 0.0
    taken = Moments(*map(jnp.asarray, (share, collateral * share, (collateral**2 + 0.01) * share)))
    price, scale = rng.uniform(0.8, 1.2, (3, 3, 1)), 1.3
    own = execution_at(book, jnp.asarray(price), jnp.asarray([scale]))
    execution, together = at_one_price(book, taken, own, jnp.asarray([scale]))
    side = np.asarray(book.side)[:, None]
    cover = -side * (price - 1) / scale
    worth = [share, (collateral - cover) * share, ((collateral - cover) ** 2 + 0.01) * share]
    one = -side * (np.asarray(execution.price) - 1) / scale
    of_all, held, square = map(np.asarray, (together.share, together.collateral, together.square))
    found = [of_all, held - one * of_all, square - 2 * one * held + one**2 * of_all]
    np.testing.assert_allclose(found, np.sum(worth, axis=1), rtol=1e-5)
    np.testing.assert_allclose(held, (collateral * share).sum(axis=0), rtol=1e-6)
