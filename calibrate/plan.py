"""What a run would do: how many paths of how many steps for what, how long that takes here, and how much memory.

The speed is measured on this machine with one small simulation of the job itself, so it includes everything the job switches on.
"""

import os
import time
from typing import Any

import numpy as np

from calibrate.assemble import assemble
from calibrate.chunking import CHUNK
from calibrate.frontier import WEIGHTED_PATHS, Sweep, fewer_fresh_paths, search_paths
from calibrate.job import LoadedJob
from calibrate.optimise import Problem, fewer_paths
from calibrate.pipeline import effort_of, problem_of, sweep_of
from calibrate.rare_events import PILOT_PATHS, may_be_weighted
from calibrate.recommend import Effort
from calibrate.screening import paths_kept
from calibrate.simulate import METRIC_FIELDS, simulate

# What a search typically needs, measured on the shipped jobs: screenings, and evaluations that each cost several values.
_SCREENINGS, _EVALUATIONS = 5, 25
# Of weighted paths: how much longer one takes, how often paths are drawn to learn where losses are, and how often those of a
# rehearsal are simulated in all, since half of them matter to the limits.
_WEIGHTED_COST, _PILOTS, _REHEARSALS = 1.3, 3, 4
_SECONDS_TO_COMPILE = 40.0
_BASE_MEMORY_MB = 1000.0
# Of plain paths distances are kept, and ranked; weighted ones are kept whole, in chunks and then together.
_PLAIN_BYTES, _WEIGHTED_BYTES = 4 + 4 + 8 + 8, 2 * 4 * (len(METRIC_FIELDS) + 2)


def plan(loaded: LoadedJob) -> dict[str, Any]:
    """Work, time and memory of `calibrate run` on this job."""
    job = loaded.job
    assembled = assemble(loaded)
    problem = problem_of(loaded, assembled)
    effort, sweep = effort_of(job), sweep_of(job)
    rate, gradient_cost = _speed(problem)

    steps = job.simulation.steps
    work = _work(problem, effort, sweep, len(job.frontier.alternatives), gradient_cost)
    worlds = len(problem.each) if job.frontier.scenarios else 1
    work["frontier"] *= worlds
    seconds = {name: paths * steps / rate for name, paths in work.items()}
    total = sum(seconds.values()) + _SECONDS_TO_COMPILE
    weighted = may_be_weighted(problem.constraints, problem.sampling)
    memory = _BASE_MEMORY_MB + effort.paths * (_WEIGHTED_BYTES if weighted else _PLAIN_BYTES) / 1e6
    free = ", ".join(job.policy.free())
    limits = ", ".join(f"{name} <= {limit:g}" for name, limit in job.constraints.limits().items())
    return {
        "name": job.name,
        "steps": steps,
        "free": list(job.policy.free()),
        "limits": job.constraints.limits(),
        "optimiser_paths": effort.optimiser_paths,
        "certificate_paths": effort.paths,
        "frontier_points": len(sweep.tolerances),
        "path_steps_per_second": rate,
        "seconds": round(total),
        "memory_mb": round(memory),
        "lines": [
            f"{loaded.path}: no problems",
            f"{job.name}: {steps:,} steps of {job.simulation.step_s:g} s over {job.simulation.horizon_days:g} day(s)",
            f"free: {free}; limits: {limits}",
            f"search on {effort.optimiser_paths:,} paths, certificate on {effort.paths:,}, "
            f"{len(sweep.tolerances)} frontier points on {sweep.paths:,} each"
            + (f", in each of {worlds} worlds" if worlds > 1 else ""),
            f"speed here: {rate / 1e6:.0f} million path-steps a second on {os.cpu_count()} cores",
            f"about {_minutes(total)} ({', '.join(f'{k} {_minutes(v)}' for k, v in seconds.items())}, the rest compiling); "
            f"about {memory / 1000:.1f} GB of memory",
        ],
    }


def _work(problem: Problem, effort: Effort, sweep: Sweep, alternatives: int, gradient_cost: float) -> dict[str, float]:
    """How many paths each part of a run simulates, one with derivatives or a weighted one counted as what it costs."""
    searched = effort.optimiser_paths
    screened, rehearsal, each = (float(paths) for paths in (searched, 1.5 * effort.paths, sweep.paths))
    points = np.array([search_paths(tolerance) for tolerance in sweep.tolerances])
    if may_be_weighted(problem.constraints, problem.sampling):
        searched = fewer_paths(effort.optimiser_paths)
        screened = _WEIGHTED_COST * (searched + _PILOTS * PILOT_PATHS)
        rehearsal = _WEIGHTED_COST * _REHEARSALS * effort.paths
        points = np.full_like(points, WEIGHTED_PATHS + _PILOTS * PILOT_PATHS)
        each = _WEIGHTED_COST * (fewer_fresh_paths(sweep.paths) + PILOT_PATHS)
    evaluation = gradient_cost * (1024 + paths_kept(problem.constraints, searched))
    certified = len(points) + 2 + alternatives  # the incumbent and the recommendation are there too
    return {
        "search": _SCREENINGS * screened + _EVALUATIONS * evaluation,
        "evidence": effort.paths + rehearsal,
        "frontier": certified * each + float(np.sum(3 * points)) + len(points) * 14 * evaluation,
    }


def _speed(problem: Problem) -> tuple[float, float]:
    """Path-steps a second here, and how many values a value with its derivatives costs."""
    paths = CHUNK * (os.cpu_count() or 1)
    took = {}
    for names in ((), problem.names):
        for _ in range(2):  # the first call compiles
            started = time.perf_counter()
            simulate(problem.scenario, problem.incumbent, seed=0, paths=paths, fields=("distance",), derivatives=names)
            took[names] = time.perf_counter() - started
    return paths * problem.scenario.steps / took[()], took[problem.names] / took[()]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
