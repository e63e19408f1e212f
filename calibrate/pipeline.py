"""The whole line as code. START READING HERE.

    job file -> scenario (assemble.py)
      -> paths: market, liquidity, oracle, margin, fronts, losses (simulate.py, front.py)
      -> metrics with errors (metrics.py) and derivatives (gradient.py)
      -> the most efficient policy within its limits (optimise.py, recommend.py)
      -> certificate on fresh paths (certify.py) -> what drives the result (sensitivity.py)
      -> the trade-off curve (frontier.py) -> run folder, figures, report (run_folder.py, report.py)

Each function below is one of the things that a user asks for; the command line adds nothing to them but talk.
"""

import datetime
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from calibrate.assemble import OPTIONAL, POLICY_UNITS, Assembled, assemble, model_path, policy_in_human_units, policy_of
from calibrate.constraints import constraints_of
from calibrate.errors import Problem as UserProblem
from calibrate.errors import UserError, raise_all
from calibrate.frontier import FrontierPoint, Sweep, frontier
from calibrate.gradient import GradientCheck, check_gradients
from calibrate.job import Job, LoadedJob, policy_problems
from calibrate.metrics import Estimate, metrics_of
from calibrate.optimise import FreeParameter, Problem
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.recommend import Effort, Recommendation, recommend
from calibrate.report import build_report
from calibrate.run_folder import new_folder, read_json, sha256, toml_text, write_json, write_table, write_text
from calibrate.sensitivity import Sensitivity, sensitivities
from calibrate.shocks import derived_seed
from calibrate.simulate import simulate
from calibrate.wording import parameter_unit

DESCRIPTIONS = {
    "base_margin_bps": "maintenance margin before volatility is added",
    "volatility_multiplier": "maintenance margin added per unit of forecast volatility over the margin horizon",
    "penalty_bps": "what a liquidated account pays, of notional",
    "margin_floor_bps": "lowest maintenance margin",
    "initial_ratio": "initial over maintenance margin",
    "keeper_share": "share of the penalty that goes to keepers",
    "forecast_memory_hours": "time constant of the volatility forecast",
    "stress_weight": "share of the volatility forecast that the venue's stressed volatility replaces",
    "margin_rise_bps_per_hour": "fastest rise of the maintenance margin",
    "margin_fall_bps_per_hour": "fastest fall of the maintenance margin",
}


class Result(NamedTuple):
    """A finished calibration: where its folder is, how it ended, and what the folder's main files hold."""

    folder: Path
    status: str
    recommended: dict[str, Any]
    metrics: dict[str, Any]


def run(loaded: LoadedJob, output: Path, listener: Listener) -> Result:
    """Calibrate: the recommended policy with its certificate, sensitivities, frontier and report, as a run folder."""
    started = time.time()
    job = loaded.job
    with new_folder(output) as folder:
        assembled = assemble(loaded)
        problem = problem_of(loaded, assembled)
        recommendation = recommend(problem, effort_of(job), listener)
        certified_at = recommendation.solution.parameters(problem) if recommendation.certificate else None

        incumbent = _metrics_json(job, assembled, assembled.incumbent, listener, "incumbent")
        metrics = {"incumbent": incumbent}
        drivers: list[Sensitivity] = []
        if recommendation.certificate is not None and certified_at is not None:
            sample = recommendation.certificate.sample
            metrics["recommended"] = _as_json(
                job,
                assembled,
                metrics_of(sample, job.simulation.tail_level),
                sample.paths,
                recommendation.certificate.seed,
            )
            drivers = sensitivities(
                assembled.scenario,
                certified_at,
                problem.names,
                sample.values["distance"],
                seed=recommendation.certificate.seed,
                listener=listener,
            )
        named = {"incumbent": assembled.incumbent} | ({"recommended": certified_at} if certified_at else {})
        points = frontier(_unrestricted(problem, job), sweep_of(job), named, listener)

        recommended = _recommended_json(job, assembled, problem, recommendation, drivers)
        write_json(folder / "recommended.json", recommended)
        write_json(folder / "metrics.json", metrics)
        write_table(folder / "frontier", frontier_table(points))
        write_text(folder / "run.toml", toml_text(_record(loaded, time.time() - started)))
        listener.note("writing figures and report")
        build_report(folder)
    return Result(output, recommendation.status, recommended, metrics)


def simulate_job(loaded: LoadedJob, policy: Path | None, listener: Listener) -> dict[str, Any]:
    """Metrics of the incumbent, or of the policy in a `recommended.json` on the paths of its certificate."""
    assembled = assemble(loaded)
    parameters = assembled.incumbent if policy is None else read_policy(policy, loaded, assembled)
    seed = None if policy is None else (read_json(policy).get("certificate") or {}).get("seed")
    return _metrics_json(loaded.job, assembled, parameters, listener, "simulating", seed=seed)


def frontier_job(loaded: LoadedJob, output: Path, listener: Listener) -> pd.DataFrame:
    """The frontier alone, as a folder with its table and figures."""
    from calibrate.figures import frontier_chart, save

    job = loaded.job
    with new_folder(output) as folder:
        started = time.time()
        assembled = assemble(loaded)
        problem = problem_of(loaded, assembled)
        points = frontier(_unrestricted(problem, job), sweep_of(job), {"incumbent": assembled.incumbent}, listener)
        table = frontier_table(points)
        write_table(folder / "frontier", table)
        save(frontier_chart(table, job.name, job.simulation.horizon_days), folder / "frontier")
        write_text(folder / "run.toml", toml_text(_record(loaded, time.time() - started)))
    return table


def check_job_gradients(loaded: LoadedJob, paths: int, bump: float) -> list[GradientCheck]:
    """Pathwise derivatives of the job's free parameters against central differences, in double precision."""
    double = loaded.job.model_copy(
        update={"simulation": loaded.job.simulation.model_copy(update={"precision": "float64"})}
    )
    assembled = assemble(loaded.model_copy(update={"job": double}))
    names = (*(POLICY_UNITS[key][0] for key in double.policy.free()), "volatility_scale", "depth_scale")
    seed = derived_seed(double.simulation.seed, "gradient check")
    return check_gradients(assembled.scenario, assembled.incumbent, names, seed=seed, paths=paths, bump=bump)


# --- from the job to the solver's terms -----------------------------------------------------------------------------------


def problem_of(loaded: LoadedJob, assembled: Assembled) -> Problem:
    job = loaded.job
    free = job.policy.free()
    if not free:
        message = "no parameter is free; set `free = true`, `low` and `high` on at least one"
        raise UserError([UserProblem(f"{loaded.path}: policy", message)])
    return Problem(
        scenario=assembled.scenario,
        incumbent=assembled.incumbent,
        free=tuple(FreeParameter(*_in_field_units(key, *choice.reach)) for key, choice in free.items()),
        constraints=tuple(constraints_of(job.constraints.limits(), job.simulation.tail_level)),
        user_cost_weight=job.objective.user_cost_weight,
    )


def _unrestricted(problem: Problem, job: Job) -> Problem:
    """The same problem without the largest change per proposal: the frontier shows what is possible in the end."""
    free = job.policy.free()
    whole = tuple(FreeParameter(*_in_field_units(key, c.low or 0.0, c.high or 0.0)) for key, c in free.items())
    return problem._replace(free=whole)


def _in_field_units(key: str, low: float, high: float) -> tuple[str, float, float, float]:
    field, unit = POLICY_UNITS[key]
    return field, low * unit, high * unit, unit


def effort_of(job: Job) -> Effort:
    simulation = job.simulation
    optimiser_paths = simulation.optimiser_paths or max(simulation.paths // 10, 100)
    return Effort(optimiser_paths, simulation.paths, simulation.seed, simulation.confidence)


def sweep_of(job: Job) -> Sweep:
    section = job.frontier
    tolerances = np.geomspace(section.loosest, section.strictest, section.points)
    return Sweep(tolerances, section.paths, job.simulation.seed, job.simulation.confidence, job.simulation.tail_level)


def read_policy(path: Path, loaded: LoadedJob, assembled: Assembled) -> Parameters:
    """The policy of a `recommended.json`, in the place of the incumbent."""
    entries = read_json(path).get("policy")
    if not isinstance(entries, dict):
        raise UserError([UserProblem(f"{path}: policy", "is missing; expected the recommended.json of a run")])
    # What the file does not name is as in the job, but a limit that it does not name is none: not every policy has one.
    named = {name: choice.value for name, choice in loaded.job.policy.choices().items()}
    problems, values = [], {name: value for name, value in named.items() if name not in OPTIONAL}
    for name, entry in entries.items():
        value = entry.get("value") if isinstance(entry, dict) else None
        if name not in POLICY_UNITS:
            problems.append(
                UserProblem(f"{path}: policy.{name}", f"unknown; expected one of {', '.join(POLICY_UNITS)}")
            )
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(UserProblem(f"{path}: policy.{name}.value", f"found {value!r}; expected a number"))
        else:
            values[name] = float(value)
    raise_all(problems + policy_problems(values, loaded.job.venue, str(path)))
    return assembled.incumbent._replace(policy=policy_of(values, assembled.scenario.dtype))


# --- what is written ------------------------------------------------------------------------------------------------------


def _metrics_json(
    job: Job, assembled: Assembled, parameters: Parameters, listener: Listener, stage: str, *, seed: int | None = None
) -> dict[str, Any]:
    seed = derived_seed(job.simulation.seed, "certificate", 1) if seed is None else int(seed)
    done = listener.stage(stage, job.simulation.paths)
    sample = simulate(assembled.scenario, parameters, seed=seed, paths=job.simulation.paths, on_progress=done)
    return _as_json(job, assembled, metrics_of(sample, job.simulation.tail_level), sample.paths, seed) | {
        "policy": policy_in_human_units(parameters.policy)
    }


def _as_json(job: Job, assembled: Assembled, metrics: dict[str, Estimate], paths: int, seed: int) -> dict[str, Any]:
    return {
        "metrics": {name: estimate.as_json() for name, estimate in metrics.items()},
        "paths": paths,
        "horizon_days": job.simulation.horizon_days,
        "seed": seed,
        "tail_level": job.simulation.tail_level,
        "open_interest_usd": assembled.open_interest_usd,
    }


def _recommended_json(
    job: Job, assembled: Assembled, problem: Problem, recommendation: Recommendation, drivers: list[Sensitivity]
) -> dict[str, Any]:
    proposed = recommendation.status != "infeasible"
    parameters = recommendation.solution.parameters(problem) if proposed else assembled.incumbent
    values = policy_in_human_units(parameters.policy)
    policy = {}
    for name, choice in job.policy.choices().items():
        value = float(f"{values[name]:.6g}") if choice.free and proposed else choice.value
        policy[name] = {
            "value": value,
            "incumbent": choice.value,
            "change": value - choice.value,
            "unit": parameter_unit(name),
            "free": choice.free,
            "low": choice.low,
            "high": choice.high,
            "description": DESCRIPTIONS[name],
        }
    content: dict[str, Any] = {
        "name": job.name,
        "status": recommendation.status,
        "message": recommendation.message,
        "horizon_days": job.simulation.horizon_days,
        "open_interest_usd": assembled.open_interest_usd,
        "policy": policy,
        "certificate": None,
        "sensitivities": [{"of": "insolvency_probability", **driver._asdict()} for driver in drivers],
    }
    certificate = recommendation.certificate
    if certificate is not None:
        content["certificate"] = {
            "paths": certificate.paths,
            "seed": certificate.seed,
            "attempts": certificate.attempt,
            "confidence": certificate.confidence,
            "constraints": [
                {"name": h.name, "limit": h.limit, **h.estimate.as_json(), "upper": h.upper, "satisfied": h.satisfied}
                for h in certificate.holdings
            ],
        }
    return content


def frontier_table(points: list[FrontierPoint]) -> pd.DataFrame:
    """One row a point, in human units."""
    return pd.DataFrame([_frontier_row(point) for point in points])


def _frontier_row(point: FrontierPoint) -> dict[str, Any]:
    m = point.metrics
    probability, margin, cost = m["insolvency_probability"], m["margin_per_oi"], m["user_cost"]
    shortfall = next((name for name in m if name.startswith("bad_debt_es")), "bad_debt")
    return {
        "label": point.label,
        "tolerance": point.tolerance,
        "insolvency_probability": probability.value,
        "standard_error": probability.standard_error,
        "low": probability.interval[0],
        "high": probability.interval[1],
        "margin_per_oi": margin.value,
        "margin_per_oi_standard_error": margin.standard_error,
        "max_leverage": m["max_leverage"].value,
        "user_cost": cost.value,
        "user_cost_standard_error": cost.standard_error,
        shortfall: m[shortfall].value,
        "certified": point.certified,
        "paths": point.paths,
    } | policy_in_human_units(point.parameters.policy)


def _record(loaded: LoadedJob, seconds: float) -> dict[str, Any]:
    """What is needed to make the run again, and to know what it was made with."""
    job = loaded.job
    packages = ("calibrate", "jax", "jaxlib", "numpy", "scipy")
    return {
        "name": job.name,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 1),
        "peak_memory_mb": round(peak_memory_mb(), 0),
        "seed": job.simulation.seed,
        "overrides": loaded.overrides,
        "device": str(jax.devices()[0].device_kind),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "inputs_sha256": {path.name: sha256(path) for path in (loaded.path, *other_inputs(loaded))},
        "job": {"file": loaded.path.name, "text": loaded.text},
    }


def other_inputs(loaded: LoadedJob) -> list[Path]:
    """The files that a job names."""
    market, book = loaded.job.market, loaded.job.book
    return [
        *([model_path(market.model, loaded)] if market.model is not None else []),
        *([loaded.folder / book.positions] if book.positions is not None else []),
    ]


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far; not known on Windows."""
    if platform.system() == "Windows":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if platform.system() == "Darwin" else 1024)
