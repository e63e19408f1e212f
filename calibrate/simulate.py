"""The time loop: from a start to the outcome of every path.

One step takes a path from shocks to losses: market, price with the impact of earlier liquidations, oracle, margin, fronts,
insurance fund. Nothing is stored between steps but the state. Shocks are made in blocks of steps, outside the innermost loop, so
that they are computed once however many derivatives travel along. Derivatives are forward mode: their memory does not grow
with the number of steps. Paths run in chunks that fit the cache, spread over cores, devices and processes (spread.py).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from calibrate.book import Book
from calibrate.chunking import in_chunks, numbers_of, usual_chunk
from calibrate.closes import sold_at
from calibrate.compiled import computed_once
from calibrate.events import NOTHING, Event, Happening, begins_of, happening
from calibrate.front import (
    closed_falsely,
    deleveraged,
    losers_of,
    market_after,
    open_deficit,
    step_fronts,
)
from calibrate.front_state import FrontState, MarketNow, start_fronts
from calibrate.judging import Averages, judged, start_averages
from calibrate.ledger import Tally, income_of_fund, settled_at_the_end, slippage_of, start_tally, tallied, watched
from calibrate.liquidity import Flow, Liquidity
from calibrate.market.market import Market, MarketState, jumped
from calibrate.market.model import StepShocks, relative_likelihood
from calibrate.oracle import NOTHING_DRAWN, ContinuousOracle, Oracle, StepOfPrice, Within
from calibrate.pieces import Piece, joined
from calibrate.policy import Parameters, Policy, with_values
from calibrate.rise_windows import Window
from calibrate.sampling import Drawn, PlainSampling, Sampling
from calibrate.shocks import PathIds, Seed, Shocks, StartDraws, path_ids, seed_words, shocks_of_steps
from calibrate.sources import SourceShocks
from calibrate.units import CohortPath, Index, PerPath, Scalar
from calibrate.venue import Venue


class Scenario(eqx.Module):
    """Everything that is simulated but the policy: the world and the venue's rules, and the time grid (`dt` in years); within
    which windows rises of the margin are watched; and what happens when, beside the world's usual course."""

    market: Market
    oracle: Oracle
    liquidity: Liquidity
    book: Book
    venue: Venue
    dt: Scalar
    steps: int = eqx.field(static=True)
    rise_windows: tuple[Window, ...] = eqx.field(static=True, default=())
    events: tuple[Event, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.dt.dtype)


class Outcome(NamedTuple):
    """What one path came to. Shares of initial open interest, unless said.

    `distance` is the signed distance to insolvency: positive exactly where losses exceeded the insurance fund, continuous
    through zero. `bad_debt` includes `open_deficit`, the deficits of accounts still open at the horizon. `initial_margin` is
    the time average of the requirement per unit of notional, `margin_peak_to_trough` and `margin_rise` its swings. The three
    fields up to `returned` say where the closed accounts' money came from and went. `log_likelihood` is zero; its derivative in
    `World.jump_rate_scale` is what derivatives along a path miss (`gradient.score_gradient`). The draws and rates after it belong
    to layers behind the insurance fund (`venue/backstop.py`), `withdrawals_stopped` is a share of the time, `topped_up` the share
    that has answered margin calls, the last three fields are the largest rises of the requirement within 1, 5 and 30 days
    (`rises.py`); these are None where the venue does not have them or nobody asked.
    """

    distance: PerPath
    bad_debt: PerPath
    open_deficit: PerPath
    insolvent_share: PerPath
    liquidated: PerPath
    liquidated_share: PerPath
    penalty: PerPath
    slippage: PerPath
    fund_income: PerPath
    fund_draw: PerPath
    socialised_loss: PerPath
    false_liquidation: PerPath
    initial_margin: PerPath
    margin_peak_to_trough: PerPath
    margin_rise: PerPath
    final_log_price: PerPath
    collateral_closed: PerPath
    pnl_closed: PerPath
    returned: PerPath
    log_likelihood: PerPath
    vault_draw: PerPath | None = None
    adl_loss: PerPath | None = None
    adl_rate: PerPath | None = None
    topped_up: PerPath | None = None
    withdrawals_stopped: PerPath | None = None
    margin_rise_1d: PerPath | None = None
    margin_rise_5d: PerPath | None = None
    margin_rise_30d: PerPath | None = None


class PathState(NamedTuple):
    """All that a path carries from step to step."""

    market: MarketState
    flow: Flow
    oracle: Any
    seen: PerPath
    variance_rate: PerPath
    fronts: FrontState
    mid: PerPath
    margin: PerPath
    tally: Tally
    log_likelihood: PerPath | None
    averages: Averages


def start(scenario: Scenario, parameters: Parameters, draws: StartDraws) -> tuple[PathState, PerPath | CohortPath]:
    """The state before the first step, and everyone's collateral relative to the reference."""
    policy, world = parameters
    normal, market = draws.normal, scenario.market.start(draws)
    zero = jnp.zeros_like(normal)
    variance_rate = scenario.market.variance_rate(market, world.volatility_scale)
    margin = scenario.venue.margin.maintenance(policy, variance_rate)
    scale = scenario.book.scale(scenario.venue.initial(policy, margin))
    state = PathState(
        market=market,
        flow=scenario.liquidity.start(normal),
        oracle=scenario.oracle.start(market.log_price),
        seen=market.log_price,
        variance_rate=variance_rate,
        fronts=start_fronts(scenario.book, scenario.venue, normal),
        mid=zero + 1,
        margin=margin,
        tally=start_tally(scenario.venue, scenario.rise_windows, normal),
        log_likelihood=None if world.jump_rate_scale is None else zero,
        averages=start_averages(scenario.venue, market.log_price),
    )
    return state, scale


def step(
    scenario: Scenario,
    parameters: Parameters,
    scale: PerPath | CohortPath,
    state: PathState,
    index: Index,
    shocks: StepShocks,
    within: Within = NOTHING_DRAWN,
    now: Happening = NOTHING,
) -> PathState:
    """One time step, from the shocks to the losses; `now` is what happens in it."""
    policy, world = parameters
    dt, venue, liquidity = scenario.dt, scenario.venue, scenario.liquidity

    market, move = scenario.market.step(state.market, shocks, dt, world.volatility_scale)
    if now.jump is not None:
        market, move = jumped(market, move, now.jump)
    flow = liquidity.fade(state.flow, dt)
    depth = liquidity.depth_now(move.log_volatility, world.depth_scale * move.depth_multiplier)
    if now.depth is not None:
        depth = depth * now.depth
    if now.gas is not None:
        venue = eqx.tree_at(lambda v: v.gas, venue, venue.gas * now.gas)
    displacement = liquidity.displacement(flow.total, depth)
    log_mid = market.log_price - displacement
    mid = jnp.exp(log_mid)

    price = StepOfPrice(
        start=state.market.log_price - displacement,
        before_jump=log_mid - move.jump,
        end=log_mid,
        variance=move.volatility**2 * dt,
        low_uniform=within.low_uniform,
        high_uniform=within.high_uniform,
        log_volatility=move.log_volatility,
        crash=move.crash,
        frozen=now.frozen,
        displaced=now.displaced,
        sources=within.sources,
    )
    oracle, view = scenario.oracle.step(state.oracle, price.shown(), index, dt)
    by, paused, averages = judged(venue, view, log_mid, state.averages, index, now)
    variance_rate = _forecast(policy, state.variance_rate, view.log_price - state.seen, dt)
    margin = computed_once(
        lambda: venue.margin.next_maintenance(policy, variance_rate, state.margin, dt), variance_rate
    )

    fronts, closes = step_fronts(
        state.fronts,
        by,
        margin,
        MarketNow(
            mid,
            market.log_price,
            depth,
            flow.total,
            flow.fading,
            move.log_volatility,
            view.log_price,
            paused=paused,
        ),
        index,
        scale,
        dt,
        book=scenario.book,
        venue=venue,
        liquidity=liquidity,
        policy=policy,
    )
    slippage = slippage_of(closes, mid, jnp.exp(market.log_price))
    losers = losers_of(scenario.book, fronts, closes)
    required = scenario.book.average(venue.initial(policy, margin))
    tally, payments = tallied(state.tally, closes, slippage, losers, policy, required, venue, dt)
    tally = watched(tally, scenario.rise_windows, required, index)
    fronts, sold = deleveraged(scenario.book, fronts, payments, closes.sold, mid)
    flow = market_after(liquidity, flow, sold)
    likelihood = None if state.log_likelihood is None else state.log_likelihood + relative_likelihood(shocks)
    return PathState(
        market, flow, oracle, view.log_price, variance_rate, fronts, mid, margin, tally, likelihood, averages
    )


def _forecast(policy: Policy, variance_rate: PerPath, oracle_return: PerPath, dt: Scalar) -> PerPath:
    """The venue's exponentially weighted forecast of annual variance, from the returns that its oracle shows."""
    weight = -jnp.expm1(-dt / policy.forecast_memory)
    return variance_rate + weight * (oracle_return**2 / dt - variance_rate)


def finish(scenario: Scenario, parameters: Parameters, scale: PerPath | CohortPath, state: PathState) -> Outcome:
    """The reckoning at the horizon: open accounts are marked at the market, and the layers pay what they can."""
    policy, venue, book = parameters.policy, scenario.venue, scenario.book
    execution = sold_at(book, venue, state.mid, scale)
    required = venue.maintenance(state.margin)
    still_open, nearest, losers = open_deficit(book, state.fronts, execution, required, state.seen, scale, venue)
    tally = settled_at_the_end(state.tally, still_open, nearest, losers, policy, venue)
    # Comparisons in the time loop pass over what is not a number; sums do not. No path may look safe because of it.
    numbers = jnp.isfinite(state.market.log_price + tally.penalty + tally.slippage + tally.margin_sum + tally.bad_debt)
    return Outcome(
        distance=jnp.where(numbers, tally.distance, jnp.nan),
        bad_debt=tally.bad_debt,
        open_deficit=still_open,
        insolvent_share=tally.insolvent_share,
        liquidated=tally.liquidated,
        liquidated_share=tally.liquidated_share,
        penalty=tally.penalty,
        slippage=tally.slippage,
        fund_income=income_of_fund(tally, policy),
        fund_draw=tally.fund_draw,
        socialised_loss=tally.socialised_loss,
        false_liquidation=closed_falsely(book, state.fronts, state.seen, required, scale),
        initial_margin=tally.margin_sum / scenario.steps,
        margin_peak_to_trough=tally.margin_highest / tally.margin_lowest,
        margin_rise=tally.margin_rise,
        final_log_price=state.market.log_price,
        collateral_closed=tally.collateral_closed,
        pnl_closed=tally.pnl_closed,
        returned=tally.returned,
        log_likelihood=jnp.zeros_like(tally.bad_debt) if state.log_likelihood is None else state.log_likelihood,
        vault_draw=tally.vault_draw,
        adl_loss=tally.adl_loss,
        adl_rate=tally.adl_rate,
        withdrawals_stopped=None if tally.gate is None else tally.gate.so_far / (scenario.steps * scenario.dt),
        topped_up=None if state.fronts.called is None else state.fronts.called.topped_up,
        **{window.metric: rise.largest for window, rise in zip(scenario.rise_windows, tally.rises, strict=True)},
    )


# A path's state, and what the way to draw it carries along.
Carry = tuple[PathState, Any]


# --- many paths -----------------------------------------------------------------------------------------------------------


def outcomes(
    scenario: Scenario, parameters: Parameters, sampling: Sampling, seed: Seed, ids: PathIds
) -> tuple[Outcome, Drawn | None]:
    """Simulate the given paths from start to horizon. Traceable: this is what is compiled and differentiated."""
    regimes = scenario.market.regimes
    draws, draw = sampling.start(seed, ids, scenario.dtype, None if regimes is None else regimes.share_at_start)
    state, scale = start(scenario, parameters, draws)
    continuous, needs = isinstance(scenario.oracle, ContinuousOracle), scenario.market.needs
    block, begins = sampling.block_length(scenario.steps), begins_of(scenario.events, seed, ids)

    def run_block(carry: Carry, number: Index) -> tuple[Carry, tuple[PerPath, PerPath] | None]:
        steps = block * number + jnp.arange(block)
        words = seed, ids, steps.astype(jnp.uint32), scenario.dtype
        shocks = shocks_of_steps(*words, continuous=continuous, needs=needs)
        of_sources = scenario.oracle.shocks(*words)

        def run_step(carry: Carry, of_step: tuple[Index, Shocks, SourceShocks | None]) -> tuple[Carry, None]:
            (state, draw), (index, made, sources) = carry, of_step
            law = scenario.market.jump_law(state.market, scenario.dt, parameters.world.jump_rate)
            regime = scenario.market.regime_law(state.market, scenario.dt)
            drawn, draw = sampling.step(draw, number, made, lax.stop_gradient(law), regime)
            within = Within(made.low_uniform, made.high_uniform, sources)
            now = happening(scenario.events, begins, index)
            return (step(scenario, parameters, scale, state, index, drawn._replace(law=law), within, now), draw), None

        (state, draw), _ = lax.scan(run_step, carry, (steps, shocks, of_sources))
        draw, sums = sampling.end_of_block(draw)
        return (state, draw), sums

    (state, draw), sums = lax.scan(run_block, (state, draw), jnp.arange(scenario.steps // block))
    return finish(scenario, parameters, scale, state), sampling.drawn(draw, sums, block)


def values_of(parameters: Parameters, names: Sequence[str]) -> np.ndarray:
    fields = parameters.policy._asdict() | parameters.world._asdict()
    return np.array([float(fields[name]) for name in names])


# --- chunks and cores -----------------------------------------------------------------------------------------------------

# The fields that metrics need; the rest says where money went and is computed only where it is asked for.
METRIC_FIELDS = tuple(
    name
    for name in Outcome._fields
    if name not in ("collateral_closed", "pnl_closed", "returned", "log_likelihood", *Outcome._field_defaults)
)
# Those of mechanisms that not every venue has come along where it has them.
OPTIONAL_FIELDS = tuple(Outcome._field_defaults)


class Sample(NamedTuple):
    """Outcomes of many paths, by field, or what is remembered of them (summary.py); derivatives, where asked for, with the
    parameters on a last axis. `weights` are None where all paths count alike; `drawn` tells how paths were drawn, where that was
    asked for."""

    values: dict[str, Any]
    derivatives: dict[str, np.ndarray]
    names: tuple[str, ...]
    weights: np.ndarray | None = None
    drawn: Drawn | None = None

    @property
    def paths(self) -> int:
        return len(next(iter(self.values.values())))

    def some(self, chosen: np.ndarray) -> "Sample":
        """Some of the paths, without how they were drawn."""
        values, derivatives = ({k: v[chosen] for k, v in part.items()} for part in (self.values, self.derivatives))
        return Sample(values, derivatives, self.names, None if self.weights is None else self.weights[chosen])


def simulate(
    scenario: Scenario,
    parameters: Parameters,
    *,
    seed: int,
    paths: int | np.ndarray,
    fields: tuple[str, ...] = METRIC_FIELDS + OPTIONAL_FIELDS,
    derivatives: tuple[str, ...] = (),
    sampling: Sampling | None = None,
    keep_drawn: bool = False,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Sample:
    """Simulate paths 0, ..., `paths` - 1, or the paths with the given numbers.

    The result for a path depends on the seed, its number and the sampling only. `derivatives` names parameters of the policy or
    the world; `on_progress` is called with the number of paths finished since the last call.
    """
    whole = joined(
        simulated(
            scenario,
            parameters,
            seed=seed,
            paths=paths,
            fields=fields,
            derivatives=derivatives,
            sampling=sampling,
            keep_drawn=keep_drawn,
            chunk=chunk,
            on_progress=on_progress,
        )
    )
    drawn: dict[str, Any] = whole.drawn
    return Sample(
        whole.values,
        whole.slopes,
        derivatives,
        weights=drawn["weight"].astype(np.float64) if drawn else None,
        drawn=Drawn(**drawn) if keep_drawn and drawn else None,
    )


def simulated(
    scenario: Scenario,
    parameters: Parameters,
    *,
    seed: int,
    paths: int | np.ndarray,
    fields: tuple[str, ...] = METRIC_FIELDS + OPTIONAL_FIELDS,
    derivatives: tuple[str, ...] = (),
    sampling: Sampling | None = None,
    keep_drawn: bool = False,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Piece]:
    """The same, chunk by chunk and in order: for samples too large to be held whole."""
    numbers, chosen, key = numbers_of(paths), sampling or PlainSampling(), seed_words(seed)
    carried = functools.partial(carried_bytes, scenario, parameters, chosen, key)
    size = chunk or usual_chunk(len(numbers), len(derivatives), carried)

    def run(ids: PathIds) -> Any:
        return _compiled(scenario, parameters, chosen, fields, derivatives, keep_drawn, key, ids)

    asked = f"{seed} {size} {fields} {derivatives} {keep_drawn}", (scenario, parameters, chosen)
    return in_chunks(run, numbers, size, scenario.dtype, asked, on_progress)


def carried_bytes(scenario: Scenario, parameters: Parameters, sampling: Sampling, seed: Seed) -> int:
    """What a path carries from step to step."""

    def carried(ids: PathIds) -> Carry:
        draws, draw = sampling.start(seed, ids, scenario.dtype)
        return start(scenario, parameters, draws)[0], draw

    leaves = jax.tree.leaves(jax.eval_shape(carried, path_ids(np.arange(1))))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@eqx.filter_jit
def _compiled(
    scenario: Scenario,
    parameters: Parameters,
    sampling: Sampling,
    fields: tuple[str, ...],
    names: tuple[str, ...],
    keep_drawn: bool,
    seed: Seed,
    ids: PathIds,
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """The chosen fields of the outcome, their derivatives in the named parameters, and how the paths were drawn."""

    def chosen(parameters: Parameters) -> tuple[dict[str, Array], dict[str, Any]]:
        outcome, drawn = outcomes(scenario, parameters, sampling, seed, ids)
        kept = {} if drawn is None else drawn._asdict() if keep_drawn else {"weight": drawn.weight}
        remembered = {name: value for name, value in kept.items() if value is not None}
        given = outcome._asdict()
        return {field: given[field] for field in fields if given[field] is not None}, remembered

    if not names:
        values, drawn = chosen(parameters)
        return values, {}, drawn
    current = parameters.policy._asdict() | parameters.world._asdict()

    def both(values: Float[Array, " parameter"]) -> tuple[dict[str, Array], tuple[dict[str, Array], dict[str, Array]]]:
        result, drawn = chosen(with_values(parameters, names, values))
        return result, (result, drawn)

    slopes, (values, drawn) = jax.jacfwd(both, has_aux=True)(jnp.stack([current[name] for name in names]))
    return values, slopes, drawn
