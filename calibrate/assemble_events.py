"""From the `[[events]]` of a job to the events that are simulated: hours become steps, basis points logarithms."""

import math

import jax.numpy as jnp
import numpy as np

from calibrate.events import Depeg, DepthCollapse, Event, GasSpike, KeeperOutage, Manipulation, OracleFreeze, When
from calibrate.job import Job
from calibrate.job_events import EventSection
from calibrate.units import BPS, Index


def events_of(job: Job, dtype: np.dtype) -> tuple[Event, ...]:
    return tuple(_event(section, job, dtype) for section in job.events)


def _event(section: EventSection, job: Job, dtype: np.dtype) -> Event:
    number = lambda value: jnp.asarray(value, dtype)  # noqa: E731
    when = _when(section, job)
    if section.kind == "keeper_outage":
        return KeeperOutage(when)
    if section.kind == "oracle_freeze":
        return OracleFreeze(when)
    if section.kind == "manipulation":
        assert section.displacement_bps is not None
        source = None if section.source is None else job.oracle.source_names.index(section.source)
        return Manipulation(when, number(math.log1p(section.displacement_bps * BPS)), source)
    if section.kind == "depth_collapse":
        return DepthCollapse(when, number(section.depth_factor))
    if section.kind == "gas_spike":
        return GasSpike(when, number(section.gas_factor))
    assert section.fall_bps is not None
    recovery = max(_steps(section.recovery_hours or 0.0, job), 1)
    return Depeg(when, number(-math.log1p(-section.fall_bps * BPS)), _count(recovery))


def _when(section: EventSection, job: Job) -> When:
    """What lasts to the horizon may begin anywhere in it; what has a duration, where it fits."""
    steps = job.simulation.steps
    lasts = steps if section.duration_hours is None else _steps(section.duration_hours, job)
    places = steps if section.duration_hours is None else max(steps - lasts + 1, 1)
    begin = None if section.from_hours is None else _count(_steps(section.from_hours, job))
    return When(begin, _count(lasts), _count(places))


def _steps(hours: float, job: Job) -> int:
    return round(hours * 3600 / job.simulation.step_s)


def _count(steps: int) -> Index:
    return jnp.asarray(steps, jnp.int32)
