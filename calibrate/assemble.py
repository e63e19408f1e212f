"""From a checked job to what the simulation takes: units become years, fractions and shares of open interest.

This is the one place where a job's human units are converted, in both directions (`policy_in_human_units`).
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from calibrate.assemble_events import events_of
from calibrate.assemble_joint import asset_of
from calibrate.assemble_oracle import guards_of, oracle_of
from calibrate.assemble_replay import replaying
from calibrate.assemble_rules import (
    auction_of,
    backstop_of,
    by_size,
    calls_of,
    cap_of,
    close_of,
    incentive_of,
    sized,
    sizes_of_cohorts,
    split_by_size,
    trigger_of,
)
from calibrate.book import Book, Cohort, lay_out
from calibrate.data.positions import read_positions
from calibrate.delay import delay_of
from calibrate.errors import Problem, UserError
from calibrate.job import CohortSection, Job, LoadedJob
from calibrate.liquidity import Liquidity
from calibrate.market.build import market_from
from calibrate.market.constant import ConstantVolatility
from calibrate.market.files import ModelFile, read_model
from calibrate.market.joint import market_of_asset
from calibrate.market.joint_files import JointModel, is_joint
from calibrate.market.market import Market
from calibrate.policy import MarginRule, Parameters, Policy, World
from calibrate.rise_windows import windows
from calibrate.shipped import shipped_folder, shipped_names
from calibrate.simulate import Scenario
from calibrate.units import BPS, HOURS_PER_YEAR, SECONDS_PER_YEAR, PerPath
from calibrate.venue import Venue
from calibrate.venue.schedule import SizeSchedule

# Key in the job -> field of `Policy` and what one unit of the key is worth in the field's unit.
POLICY_UNITS: dict[str, tuple[str, float]] = {
    "base_margin_bps": ("base_margin", BPS),
    "volatility_multiplier": ("volatility_multiplier", 1.0),
    "penalty_bps": ("penalty", BPS),
    "margin_floor_bps": ("margin_floor", BPS),
    "initial_ratio": ("initial_ratio", 1.0),
    "keeper_share": ("keeper_share", 1.0),
    "forecast_memory_hours": ("forecast_memory", 1 / HOURS_PER_YEAR),
    "stress_weight": ("stress_weight", 1.0),
    "margin_rise_bps_per_hour": ("margin_rise", BPS * HOURS_PER_YEAR),
    "margin_fall_bps_per_hour": ("margin_fall", BPS * HOURS_PER_YEAR),
}
# Parameters that a policy may do without.
OPTIONAL = tuple(key for key, (field, _) in POLICY_UNITS.items() if field in Policy._field_defaults)


class Assembled(NamedTuple):
    """What a job simulates: the scenario, the incumbent policy in an undisturbed world, and what USD figures refer to."""

    scenario: Scenario
    incumbent: Parameters
    open_interest_usd: float


def assemble(loaded: LoadedJob) -> Assembled:
    """Build the simulation that a job describes."""
    job = loaded.job
    dtype = np.dtype(job.simulation.precision)
    with jax.enable_x64(dtype == np.float64):
        policy = policy_of({name: choice.value for name, choice in job.policy.choices().items()}, dtype)
        margin = _margin_rule(job, dtype)
        market = market_of(loaded, dtype, model_of(loaded))
        book, open_interest_usd, schedule = _book(loaded, _median_margin(market, margin, policy), policy, dtype)
        scenario = Scenario(
            market=market,
            oracle=oracle_of(loaded, market, dtype),
            liquidity=_liquidity(job, open_interest_usd, dtype),
            book=book,
            venue=_venue(job, margin, open_interest_usd, schedule, dtype),
            dt=jnp.asarray(job.simulation.step_s / SECONDS_PER_YEAR, dtype),
            steps=job.simulation.steps,
            rise_windows=windows(job.rise_windows_days(), job.simulation.step_s),
            events=events_of(job, dtype),
        )
        one = jnp.asarray(1.0, dtype)
        return Assembled(scenario, Parameters(policy, World(one, one)), open_interest_usd)


def policy_of(human: dict[str, float], dtype: np.dtype) -> Policy:
    """A policy from values under their keys in the job; a limit without a value is none."""
    with jax.enable_x64(dtype == np.float64):
        units = {key: POLICY_UNITS[key] for key in human}
        return Policy(**{field: jnp.asarray(human[key] * unit, dtype) for key, (field, unit) in units.items()})


def policy_in_human_units(policy: Policy) -> dict[str, float]:
    """A policy's values under their keys in the job, without the limits that it does not have."""
    fields = policy._asdict()
    return {
        key: float(fields[field]) / unit for key, (field, unit) in POLICY_UNITS.items() if fields[field] is not None
    }


def model_of(loaded: LoadedJob) -> ModelFile | JointModel | None:
    """What the job's model file holds; None for a volatility that is constant, which takes no file."""
    section = loaded.job.market
    if section.model is None:
        return None
    path = model_path(section.model, loaded)
    if is_joint(path) or section.asset is not None:
        joint, _ = asset_of(loaded, path)
        return joint
    return read_model(path)


def market_of(loaded: LoadedJob, dtype: np.dtype, model: ModelFile | JointModel | None) -> Market:
    """The job's market, with the law that a model describes."""
    law = _in_units_of_debt(_law_of(loaded, dtype, model), loaded, dtype)
    return law if loaded.job.market.replay is None else replaying(law, loaded, dtype)


def _in_units_of_debt(law: Market, loaded: LoadedJob, dtype: np.dtype) -> Market:
    """The law of the collateral's price in units of the asset that is owed."""
    debt = loaded.job.market.debt
    if debt is None:
        return law
    one = jnp.ones((1,), dtype)
    moves = debt.moves(float(jnp.sqrt(law.variance_rate(law.usual(one), one[0])[0])))
    if moves < _LEAST_MOVES:
        message = (
            f"collateral and debt move alike (to {moves:.1g} of the collateral's moves), so that nothing is at risk"
        )
        message += "; lower `correlation`, or correct `volatility`"
        raise UserError([Problem(f"{loaded.path}: market.debt", message)])
    return replace(law, moves=jnp.asarray(moves, dtype))


# Below this part of the collateral's own moves a pair does not move at all.
_LEAST_MOVES = 1e-3


def _law_of(loaded: LoadedJob, dtype: np.dtype, model: ModelFile | JointModel | None) -> Market:
    section, step_s = loaded.job.market, loaded.job.simulation.step_s
    if model is None:
        assert section.volatility is not None
        return Market(ConstantVolatility(jnp.asarray(section.volatility, dtype)), jnp.asarray(0.0, dtype))
    if isinstance(model, JointModel):
        assert section.asset is not None
        return market_of_asset(model, section.asset, section.initial_volatility, step_s, dtype)
    if section.initial_volatility is not None and model.parts.family == "constant":
        found = f"found {section.initial_volatility:g}, but volatility never changes in the model {section.model!r}"
        expected = "remove it, or choose a model whose volatility moves"
        raise UserError([Problem(f"{loaded.path}: market.initial_volatility", f"{found}; {expected}")])
    return market_from(model, section.initial_volatility, step_s, dtype)


def model_path(name: str, loaded: LoadedJob) -> Path:
    """A model file next to the job (or by absolute path), else a shipped one of that name."""
    beside = loaded.folder / name
    if beside.is_file():
        return beside
    shipped = shipped_folder("models") / f"{name}.toml"
    if shipped.is_file():
        return shipped
    known = ", ".join(shipped_names("models"))
    place = f"{loaded.path}: market.model"
    raise UserError([Problem(place, f"no model {name!r}: neither a file beside the job nor a shipped model ({known})")])


def _median_margin(market: Market, rule: MarginRule, policy: Policy) -> PerPath:
    """The incumbent's maintenance margin at median volatility (one path): a book's collateral is given in units of the initial
    requirement that follows from it."""
    one = jnp.ones((1,), rule.horizon.dtype)
    return rule.maintenance(policy, market.variance_rate(market.usual(one), one[0]))


def _margin_rule(job: Job, dtype: np.dtype) -> MarginRule:
    venue = job.venue
    numbers = (
        venue.lowest_margin_bps * BPS,
        venue.highest_margin_bps * BPS,
        venue.penalty_allowance,
        venue.margin_horizon_minutes * 60 / SECONDS_PER_YEAR,
    )
    lowest, highest, allowance, horizon = (jnp.asarray(number, dtype) for number in numbers)
    stressed = None if venue.stressed_volatility is None else jnp.asarray(venue.stressed_volatility, dtype)
    return MarginRule(lowest, highest, allowance, horizon, stressed)


def _liquidity(job: Job, open_interest_usd: float, dtype: np.dtype) -> Liquidity:
    section = job.liquidity
    numbers = (
        section.depth_usd / open_interest_usd,
        section.volatility_exponent,
        section.crossover,
        section.fast_share,
        section.slow_share,
        section.fast_recovery_s / SECONDS_PER_YEAR,
        section.slow_recovery_s / SECONDS_PER_YEAR,
    )
    return Liquidity(*(jnp.asarray(number, dtype) for number in numbers))


def _venue(
    job: Job, margin: MarginRule, open_interest_usd: float, schedule: SizeSchedule | None, dtype: np.dtype
) -> Venue:
    section = job.venue
    return Venue(
        margin=margin,
        gas=jnp.asarray(section.gas_usd / job.book.position_usd, dtype),
        half_spread=jnp.asarray(job.liquidity.half_spread_bps * BPS, dtype),
        fund=jnp.asarray(section.insurance_fund_usd / open_interest_usd, dtype),
        keeper_delay=delay_of(round(section.keeper_delay_s / job.simulation.step_s)),
        recheck=section.recheck,
        unlimited_keepers=section.keepers == "unlimited",
        backstop=backstop_of(section.backstop, open_interest_usd, dtype),
        schedule=schedule,
        close=close_of(job, dtype),
        cap=cap_of(section.close_cap, open_interest_usd, dtype),
        incentive=incentive_of(section.incentive, job.book.position_usd, dtype),
        trigger=trigger_of(section.trigger, job.simulation.step_s, dtype),
        calls=calls_of(section.margin_calls, job.simulation.step_s, dtype),
        batch=None
        if section.batch_s is None
        else jnp.asarray(round(section.batch_s / job.simulation.step_s), jnp.int32),
        auction=auction_of(section.auction, job.simulation.step_s, open_interest_usd, dtype),
        guards=guards_of(section.guards, job.simulation.step_s, dtype),
    )


def _book(
    loaded: LoadedJob, margin: PerPath, policy: Policy, dtype: np.dtype
) -> tuple[Book, float, SizeSchedule | None]:
    """Accounts, open interest, and what sizes do to the margin. `margin` is the maintenance margin at median volatility."""
    job, section = loaded.job, loaded.job.book
    depends = by_size(job.venue)
    positions = None if section.positions is None else read_positions(loaded.folder / section.positions)
    open_interest_usd = section.open_interest_usd if positions is None else positions.open_interest_usd
    assert open_interest_usd is not None
    split = [] if positions is None or not depends else split_by_size(positions, job.venue)
    schedule = None
    reference: float | np.ndarray = float((policy.initial_ratio * margin)[0])
    if depends:
        holdings = sizes_of_cohorts(job) if positions is None else [sizes for _, sizes in split]
        schedule = sized(job.venue, holdings, open_interest_usd).schedule(dtype)
        reference = np.asarray(schedule.initial(policy.initial_ratio, margin))
    if positions is None:
        assert section.cohorts is not None
        asked = {"initial": reference, "maintenance": margin if schedule is None else schedule.maintenance(margin)}
        cohorts = [
            _mixture_cohort(
                cohort, float(np.broadcast_to(np.ravel(asked[cohort.requirement]), len(section.cohorts))[k])
            )
            for k, cohort in enumerate(section.cohorts)
        ]
    else:
        cohorts = [cohort for cohort, _ in split] or positions.cohorts()
    book = lay_out(
        cohorts,
        reference_margin=reference,
        responds=section.leverage == "responds",
        segments=section.resolution,
        dtype=dtype,
    )
    return book, open_interest_usd, schedule


def _mixture_cohort(section: CohortSection, requirement: float) -> Cohort:
    """Collateral `requirement * (1 + excess)`, the excess a mixture of lognormals; quantiles by inverting its distribution."""
    weights = np.array([part.weight for part in section.mixture])
    logs = np.log([part.median_excess for part in section.mixture])
    spreads = np.array([part.spread for part in section.mixture])
    grid = np.linspace((logs - 6 * spreads).min(), (logs + 4 * spreads).max(), 20_001)
    share = ndtr((grid[:, None] - logs) / spreads) @ (weights / weights.sum())
    excess = np.exp(grid)

    def quantile(wanted: np.ndarray) -> np.ndarray:
        # The riskiest account sits right at the requirement; the safest end of the grid stands for all beyond it.
        return requirement * (1 + np.where(wanted <= share[0], 0.0, np.interp(wanted, share, excess)))

    return Cohort(1 if section.side == "long" else -1, section.share, quantile)


def warnings_of(job: Job) -> list[str]:
    """What is legal but probably not meant, in words."""
    notes = []
    late = {f"oracle.sources.{i}.lag_s": source.lag_s for i, source in enumerate(job.oracle.sources or [])}
    delays = {"oracle.delay_s": job.oracle.delay_s, "venue.keeper_delay_s": job.venue.keeper_delay_s} | late
    for name, seconds in delays.items():
        steps = round(seconds / job.simulation.step_s)
        if abs(steps * job.simulation.step_s - seconds) > 1e-9:
            rounded = steps * job.simulation.step_s
            notes.append(f"{name} is rounded from {seconds:g} s to {steps} steps ({rounded:g} s)")
    # A floor under what keepers get, an order of the venue itself or an auction is no question of their share of the penalty.
    venue = job.venue
    for_profit = venue.keepers == "for-profit" and venue.incentive is None and venue.auction is None
    if (
        for_profit
        and job.policy.keeper_share.value * job.policy.penalty_bps.value * BPS
        <= job.venue.gas_usd / job.book.position_usd
    ):
        notes.append("under the incumbent policy keepers earn no more than their gas: nothing would be liquidated")
    caps, opened = venue.open_interest_add_on, job.book.open_interest_usd
    if caps is not None and opened is not None and opened >= caps.upper_usd:
        notes.append(
            f"book.open_interest_usd is {opened:,.0f}, at or above the cap of {caps.upper_usd:,.0f} at which opening asks for "
            "all of the notional: nobody has leverage, whatever the margins"
        )
    return notes
