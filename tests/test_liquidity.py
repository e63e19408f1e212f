"""Market depth, the impact of liquidations and how it fades: the stated properties, in double precision."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calibrate.liquidity import Flow, Liquidity

MINUTE = 1 / (365 * 1440)
# Depth, its volatility exponent and the crossover, as shares of open interest and of depth.
VENUES = {
    "deep": (0.5, 1.0, 0.02),
    "shallow": (0.01, 0.7, 0.02),
    "nearly linear": (0.08, 1.5, 5.0),
    "square root": (0.08, 1.0, 1e-6),
}
NAMES = pytest.mark.parametrize("name", VENUES)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def liquidity(name: str = "deep", *, weights: tuple[float, float] = (0.5, 0.3)) -> Liquidity:
    return Liquidity(*(jnp.asarray(x, float) for x in (*VENUES[name], *weights, 5 * MINUTE, 120 * MINUTE)))


def depth_of(market: Liquidity) -> jax.Array:
    return market.depth_now(jnp.zeros(1), jnp.asarray(1.0))


# --- depth and impact -----------------------------------------------------------------------------------------------------


@NAMES
def test_the_quoted_depth_moves_the_price_by_two_per_cent(name: str) -> None:
    market = liquidity(name)
    depth = depth_of(market)
    np.testing.assert_allclose(market.displacement(depth, depth), 0.02, rtol=1e-12)
    np.testing.assert_allclose(market.displacement(-depth, depth), -0.02, rtol=1e-12)


@NAMES
def test_depth_falls_with_volatility_to_its_power(name: str) -> None:
    market = liquidity(name)
    depth, exponent, _ = VENUES[name]
    twice_the_volatility = jnp.log(jnp.asarray([0.5, 1.0, 2.0]))
    found = market.depth_now(twice_the_volatility, jnp.asarray(0.7))
    np.testing.assert_allclose(found, 0.7 * depth * np.array([0.5, 1.0, 2.0]) ** -exponent, rtol=1e-12)


@NAMES
def test_impact_is_antisymmetric_and_rises(name: str) -> None:
    market = liquidity(name)
    flow = jnp.asarray(np.geomspace(1e-4, 10.0, 100))
    depth = depth_of(market)
    bought, sold = market.displacement(-flow, depth), market.displacement(flow, depth)
    np.testing.assert_array_equal(bought, -sold)
    assert (np.diff(sold) > 0).all()
    assert (np.diff(np.diff(sold) / np.diff(flow)) < 0).all(), (
        "each further unit of flow costs less than the one before"
    )
    assert market.displacement(jnp.zeros(1), depth) == 0


@NAMES
def test_small_flow_costs_in_proportion_with_a_finite_slope(name: str) -> None:
    """The slope at zero is Y / (2 sqrt(eps) D), from either side."""
    market = liquidity(name)
    depth, _, eps = VENUES[name]
    steepness = 0.02 / (np.sqrt(1 + eps) - np.sqrt(eps))
    slope = steepness / (2 * np.sqrt(eps) * depth)
    for flow in (-1e-6 * eps * depth, 1e-6 * eps * depth):
        found = market.displacement(jnp.asarray([flow]), depth_of(market))[0] / flow
        np.testing.assert_allclose(found, slope, rtol=1e-5)
        derivative = jax.grad(lambda f: market.displacement(f, jnp.asarray(depth)))(jnp.asarray(flow))
        np.testing.assert_allclose(derivative, slope, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda f: market.displacement(f, jnp.asarray(depth)))(jnp.asarray(0.0)))


@NAMES
def test_large_flow_costs_its_square_root(name: str) -> None:
    market = liquidity(name)
    depth, _, eps = VENUES[name]
    flow = jnp.asarray([1.0, 4.0, 16.0]) * 1e8 * (1 + eps) * depth
    cost = np.asarray(market.displacement(flow, depth_of(market)))
    np.testing.assert_allclose(cost[1:] / cost[:-1], 2.0, rtol=1e-3)


@NAMES
def test_the_flow_that_costs_so_much_is_the_inverse_of_impact(name: str) -> None:
    market = liquidity(name)
    depth = depth_of(market)
    for cost in (0.0, 1e-5, 1e-3, 0.02, 0.3):
        flow = market.flow_that_costs(jnp.asarray(cost), depth)
        np.testing.assert_allclose(market.displacement(flow, depth), cost, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(market.flow_that_costs(jnp.asarray(0.02), depth), depth, rtol=1e-12)
    flow = jnp.asarray([1e-4, 1e-2, 1.0])
    again = [market.flow_that_costs(market.displacement(f, depth), depth)[0] for f in flow]
    np.testing.assert_allclose(again, flow, rtol=1e-9)


@pytest.mark.parametrize("name", ["deep", "square root"])
def test_derivatives_of_impact_are_the_limits_of_difference_quotients(name: str) -> None:
    market = liquidity(name)
    depth = depth_of(market)
    flow = jnp.asarray([-2.0, -0.3, 0.1, 4.0]) * depth
    impact = jax.jit(lambda flow, depth: market.displacement(flow, depth))
    check_grads(impact, (flow, jnp.broadcast_to(depth, flow.shape)), order=1, modes=("fwd", "rev"), eps=1e-6, rtol=1e-6)
    inverse = jax.jit(lambda cost, depth: market.flow_that_costs(cost, depth))
    check_grads(inverse, (jnp.asarray(0.01), depth), order=1, modes=("fwd", "rev"), eps=1e-7, rtol=1e-6)


# --- flow -----------------------------------------------------------------------------------------------------------------


def some_flow() -> Flow:
    return Flow(jnp.asarray([0.3, -0.2]), jnp.asarray([0.1, 0.4]), jnp.asarray([-0.05, 0.2]))


@pytest.mark.parametrize("pieces", [2, 7])
def test_flow_fades_as_much_in_several_short_steps_as_in_a_long_one(pieces: int) -> None:
    market, dt = liquidity(), 12 * MINUTE
    once = market.fade(some_flow(), jnp.asarray(dt))
    again = some_flow()
    for _ in range(pieces):
        again = market.fade(again, jnp.asarray(dt / pieces))
    for one, several in zip(once, again, strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-13)


def test_each_part_of_the_flow_fades_at_its_own_time() -> None:
    market, before = liquidity(), some_flow()
    after = market.fade(before, jnp.asarray(5 * MINUTE))
    np.testing.assert_allclose(after.fast, before.fast * np.exp(-1), rtol=1e-12)
    np.testing.assert_allclose(after.slow, before.slow * np.exp(-5 / 120), rtol=1e-12)
    np.testing.assert_array_equal(after.permanent, before.permanent)
    much_later = market.fade(before, jnp.asarray(1.0))
    np.testing.assert_allclose(much_later.total, before.permanent, rtol=1e-12)
    np.testing.assert_allclose(much_later.fading, 0.0, atol=1e-15)


@pytest.mark.parametrize("weights", [(0.5, 0.3), (1.0, 0.0), (0.0, 0.0), (0.2, 0.8)])
def test_what_is_sold_is_all_in_the_flow(weights: tuple[float, float]) -> None:
    market, before, sold = liquidity(weights=weights), some_flow(), jnp.asarray([0.7, -0.25])
    after = market.add(before, sold)
    np.testing.assert_allclose(after.total, before.total + sold, rtol=1e-14)
    for part, weight in zip(("fast", "slow", "permanent"), (*weights, 1 - sum(weights)), strict=True):
        np.testing.assert_allclose(getattr(after, part) - getattr(before, part), weight * sold, atol=1e-15)


def test_selling_in_two_parts_is_selling_at_once() -> None:
    market, half = liquidity(), jnp.asarray([0.35, -0.1])
    twice, once = market.add(market.add(some_flow(), half), half), market.add(some_flow(), 2 * half)
    for a, b in zip(twice, once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_the_market_starts_undisturbed() -> None:
    market = liquidity()
    start = market.start(jnp.ones(3))
    assert not np.asarray(start.total).any()
    np.testing.assert_array_equal(market.displacement(start.total, jnp.full(3, 0.1)), 0.0)
