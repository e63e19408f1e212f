"""From the `[oracle]` of a job, and what its venue asks of it, to the oracle that is simulated."""

import math

import jax.numpy as jnp
import numpy as np

from calibrate.delay import delay_of
from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.job_guards import GuardsSection
from calibrate.job_oracle import OracleSection, SourceSection
from calibrate.market.market import Market
from calibrate.oracle import ContinuousOracle, ExactOracle, Oracle, Publication, PushOracle
from calibrate.oracle_pipe import Average, Band, Exponential, OraclePipe, TimeWeighted
from calibrate.sources import Lag, Noise, Outages, Sources
from calibrate.units import BPS, SECONDS_PER_YEAR
from calibrate.venue.guards import Guards, OwnAverage


def oracle_of(loaded: LoadedJob, market: Market, dtype: np.dtype) -> Oracle:
    section, step_s = loaded.job.oracle, loaded.job.simulation.step_s
    crash_delay_s = 0.0 if market.regimes is None else float(market.regimes.oracle_delay) * SECONDS_PER_YEAR
    if section.kind == "continuous" and crash_delay_s:
        message = (
            "found 'continuous', which sees every instant at once, but in a crash the market model makes reports late "
        )
        message += f"(crash_oracle_delay_s, {crash_delay_s:g}); choose 'exact' or 'push', or set that to 0"
        raise UserError([Problem(f"{loaded.path}: oracle.kind", message)])
    growth, longest = section.delay_volatility_exponent, section.longest_delay_s or 0.0
    delay = delay_of(
        round(section.delay_s / step_s),
        growth=None if growth is None else jnp.asarray(growth, dtype),
        longest=round(longest / step_s),
        in_crash=round(crash_delay_s / step_s),
    )
    clamp = None if section.clamp_bps is None else jnp.asarray(section.clamp_bps * BPS, dtype)
    guards = loaded.job.venue.guards
    dated = guards is not None and guards.stale_after_s is not None
    if section.kind == "continuous":
        return ContinuousOracle(delay, dated)
    publication: Publication
    if section.kind == "exact":
        publication = ExactOracle(delay, clamp, dated)
    else:
        assert section.deviation_bps is not None
        assert section.heartbeat_s is not None
        deviation, heartbeat = section.deviation_bps * BPS, section.heartbeat_s / SECONDS_PER_YEAR
        publication = PushOracle(
            deviation=jnp.asarray(deviation, dtype),
            heartbeat=jnp.asarray(heartbeat, dtype),
            delay=delay,
            restarts=section.heartbeat_restarts is not False,
            clamp=clamp,
            dated=dated,
        )
    before = sources_of(section, step_s, dtype), _average_of(section, step_s, dtype), _band_of(section, dtype)
    return publication if all(part is None for part in before) else OraclePipe(publication, *before)


def sources_of(section: OracleSection, step_s: float, dtype: np.dtype) -> Sources | None:
    """The sources; their noise and outages are exact at any step."""
    if section.sources is None:
        return None
    column = lambda values: jnp.asarray(np.array(list(values)), dtype)  # noqa: E731
    noise = outages = None
    if any(source.noise_bps for source in section.sources):
        kept = (0.5 ** (step_s / s.noise_half_life_s) if s.noise_half_life_s else 0.0 for s in section.sources)
        noise = Noise(column(source.noise_bps * BPS for source in section.sources), column(kept))
    if any(source.outages_per_day for source in section.sources):
        chances = [_outage_chances(source, step_s) for source in section.sources]
        outages = Outages(*(column(part) for part in zip(*chances, strict=True)))
    weights = column(1.0 if source.weight is None else source.weight for source in section.sources)
    late = [round(source.lag_s / step_s) for source in section.sources]
    return Sources(
        weights,
        noise,
        outages,
        section.quorum or 1,
        section.aggregate == "mean",
        Lag(jnp.asarray(late, jnp.int32), max(late)) if any(late) else None,
        quartiles=section.band_of_sources is not None,
    )


def _outage_chances(source: SourceSection, step_s: float) -> tuple[float, float]:
    """The probabilities of being out one step after having been there, and after having been out."""
    if source.outages_per_day is None or source.outage_minutes is None:
        return 0.0, 0.0
    going, coming = source.outages_per_day / 86_400, 1 / (60 * source.outage_minutes)
    share, mixed = going / (going + coming), -math.expm1(-(going + coming) * step_s)
    return share * mixed, 1 - (1 - share) * mixed


def _average_of(section: OracleSection, step_s: float, dtype: np.dtype) -> Average | None:
    if section.twap_minutes is not None:
        return TimeWeighted(delay_of(max(round(section.twap_minutes * 60 / step_s), 1)))
    if section.ema_minutes is not None:
        return Exponential(jnp.asarray(_weight(section.ema_minutes, step_s), dtype))
    return None


def _weight(minutes: float, step_s: float) -> float:
    """What an exponential average of this time constant takes over in a step."""
    return -math.expm1(-step_s / (60 * minutes))


def _band_of(section: OracleSection, dtype: np.dtype) -> Band | None:
    """A band of no width is none."""
    if not section.band_bps and section.band_of_sources is None:
        return None
    half_width, growth = (section.band_bps or 0.0) * BPS, section.band_volatility_exponent or 0.0
    of_sources = None if section.band_of_sources is None else jnp.asarray(section.band_of_sources, dtype)
    return Band(jnp.asarray(half_width, dtype), jnp.asarray(growth, dtype), of_sources)


def guards_of(section: GuardsSection | None, step_s: float, dtype: np.dtype) -> Guards | None:
    if section is None:
        return None
    stale_after = (
        None if section.stale_after_s is None else jnp.asarray(round(section.stale_after_s / step_s), jnp.int32)
    )
    widest = None if section.widest_gap_bps is None else jnp.asarray(math.log1p(section.widest_gap_bps * BPS), dtype)
    average = None
    if section.widest_from_average_bps is not None and section.average_minutes is not None:
        weight = _weight(section.average_minutes, step_s)
        average = OwnAverage(jnp.asarray(section.widest_from_average_bps * BPS, dtype), jnp.asarray(weight, dtype))
    return Guards(stale_after, widest, section.when_stale == "market", average)
