"""The whole line as code. START READING HERE.

    job file -> scenario (assemble.py)
      -> how paths are drawn: plainly, or from where losses are, which is learned (sampling.py, rare_events.py)
      -> paths: market, liquidity, oracle, margin, fronts, losses (simulate.py, front.py)
      -> metrics with errors (metrics.py), by weighted paths (weighing.py), and derivatives (gradient.py)
      -> the most efficient policy within its limits (optimise.py, recommend.py)
      -> certificate on fresh paths (certify.py) -> what drives the result (sensitivity.py)
      -> what the limits buy and what assumptions force (easing.py), which is checked (solved_again.py)
      -> the trade-off curve (frontier.py) and where policies stand against it (trade_off.py)
      -> run folder, figures, report (run_folder.py, report.py)

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
from calibrate.assumptions import assumptions_of
from calibrate.certify import measured
from calibrate.constraints import Constraint, constraint_of
from calibrate.easing import Easing, easing_of
from calibrate.elasticities import CHANGE, Elasticity, elasticities
from calibrate.errors import Problem as UserProblem
from calibrate.errors import UserError, raise_all
from calibrate.export.native import Native
from calibrate.frontier import FrontierPoint, Sweep, frontiers
from calibrate.frontier_worlds import joined, own_world
from calibrate.gradient import GradientCheck, check_gradients
from calibrate.job import Job, LoadedJob, policy_problems
from calibrate.job_frontier import OWN
from calibrate.metrics import Estimate, metrics_of
from calibrate.optimise import FreeParameter, Problem
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.rare_events import DEFENSIVE_SHARE, Chosen
from calibrate.recommend import Effort, Recommendation, recommend
from calibrate.recorded import drawn_again
from calibrate.remarks import remarks
from calibrate.report import build_report
from calibrate.run_folder import new_folder, read_json, sha256, toml_text, write_json, write_table, write_text
from calibrate.sensitivity import Sensitivity, sensitivities
from calibrate.settling import reach_of, settling
from calibrate.shocks import derived_seed
from calibrate.simulate import Sample, Scenario
from calibrate.solved_again import drivers_told
from calibrate.trade_off import NO_LEVERAGE, dominated, hypervolume, standings
from calibrate.venue_rules import incumbent_of
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
    """A finished calibration: where its folder is, how it ended, and what the folder's main files hold (`trade_off` is
    that of frontier.json)."""

    folder: Path
    status: str
    recommended: dict[str, Any]
    metrics: dict[str, Any]
    trade_off: dict[str, Any]


class Swept(NamedTuple):
    """A frontier: one row a point, those under other scenarios below those of the job itself, and what frontier.json says about
    the whole."""

    table: pd.DataFrame
    trade_off: dict[str, Any]


def run(loaded: LoadedJob, output: Path, listener: Listener) -> Result:
    """Calibrate: the recommended policy with its certificate, sensitivities, frontier and report, as a run folder."""
    started = time.time()
    job = loaded.job
    with new_folder(output) as folder:
        assembled = assemble(loaded)
        problem = problem_of(loaded, assembled)
        recommendation = recommend(problem, effort_of(job), listener)
        certified_at = recommendation.solution.parameters(problem) if recommendation.certificate else None

        incumbent, _ = _measured_json(job, assembled, assembled.incumbent, listener, "incumbent")
        metrics = {"incumbent": incumbent}
        drivers: list[Sensitivity] = []
        moves: list[Elasticity] = []
        certificate = recommendation.certificate
        if certificate is not None and certified_at is not None:
            sample, seed, level = certificate.sample, certificate.seed, job.simulation.tail_level
            found = metrics_of(sample, level)
            metrics["recommended"] = _as_json(job, assembled, found, sample.paths, seed)
            there = assembled.scenario, certified_at, problem.names
            drawn = certificate.chosen.sampling
            drivers = sensitivities(*there, sample, drawn, seed=seed, listener=listener)
            assumed = assumptions_of(loaded, assembled.scenario, CHANGE)
            moves = elasticities(
                *there, sample, drawn, seed=seed, tail_level=level, listener=listener, assumptions=assumed
            )
        named = {"incumbent": assembled.incumbent} | ({"recommended": certified_at} if certified_at else {})
        swept = _swept(job, assembled, problem, named, listener)

        easing = easing_of(problem, recommendation, job.simulation.seed)
        native = incumbent_of(loaded.preset, job.policy) if loaded.preset else None
        recommended = _recommended_json(job, assembled, problem, recommendation, easing, native)
        recommended["sensitivities"] = drivers_told(
            drivers, problem, recommendation, easing, job.simulation.seed, listener
        )
        recommended["elasticities"] = [move._asdict() for move in moves]
        write_json(folder / "recommended.json", recommended)
        write_json(folder / "metrics.json", metrics)
        _write_frontier(folder, swept)
        write_text(folder / "run.toml", toml_text(record(loaded, time.time() - started)))
        listener.note("writing figures and report")
        build_report(folder)
    return Result(output, recommendation.status, recommended, metrics, swept.trade_off)


def simulate_job(loaded: LoadedJob, policy: Path | None, listener: Listener) -> dict[str, Any]:
    """Metrics of the incumbent, or of the policy in a `recommended.json` on the paths of its certificate."""
    assembled = assemble(loaded)
    parameters = assembled.incumbent if policy is None else read_policy(policy, loaded, assembled)
    drawn = {} if policy is None else drawn_again(policy, loaded.job.simulation)
    found, sample = _measured_json(loaded.job, assembled, parameters, listener, "simulating", **drawn)
    return found | remarks(loaded.job, assembled, parameters, sample, listener, seed=found["seed"])


def frontier_job(loaded: LoadedJob, output: Path, listener: Listener) -> Swept:
    """The frontier alone, as a folder with its tables and figures."""
    from calibrate.figures import frontier_chart, save, scenarios_chart

    job = loaded.job
    with new_folder(output) as folder:
        started = time.time()
        assembled = assemble(loaded)
        problem = problem_of(loaded, assembled)
        swept = _swept(job, assembled, problem, {"incumbent": assembled.incumbent}, listener)
        _write_frontier(folder, swept)
        about, axes = (job.name, job.simulation.horizon_days), swept.trade_off["axes"]
        save(frontier_chart(own_world(swept.table), *about, **axes), folder / "frontier")
        if job.frontier.scenarios:
            save(scenarios_chart(swept.table, *about, **axes), folder / "frontier_scenarios")
        write_text(folder / "run.toml", toml_text(record(loaded, time.time() - started)))
    return swept


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
        free=tuple(
            FreeParameter(*_in_field_units(key, *reach_of(key, choice, loaded))) for key, choice in free.items()
        ),
        constraints=limits_of(job, assembled),
        user_cost_weight=job.objective.user_cost_weight,
        sampling=job.simulation.sampling,
        others=tuple((name, _scenario(name, variant, loaded)) for name, variant in loaded.variants.items()),
        shares=job.shares_of_scenarios(),
        settle=settling(loaded, assembled),
        tail_level=job.simulation.tail_level,
    )


def _scenario(name: str, variant: Job, loaded: LoadedJob) -> Scenario:
    """What a job simulates under one of its scenarios."""
    try:
        return assemble(loaded.model_copy(update={"job": variant})).scenario
    except UserError as error:
        raise UserError([UserProblem(f"scenario {name!r}: {p.place}", p.message) for p in error.problems]) from None


def limits_of(job: Job, assembled: Assembled) -> tuple[Constraint, ...]:
    """The job's limits, those in USD as shares of open interest."""
    limits = {
        name.removesuffix("_usd"): limit / assembled.open_interest_usd if name.endswith("_usd") else limit
        for name, limit in job.constraints.limits().items()
    }
    return tuple(constraint_of(name, limit, job.simulation.tail_level) for name, limit in limits.items())


def _swept(job: Job, assembled: Assembled, problem: Problem, named: dict[str, Parameters], listener: Listener) -> Swept:
    """The frontier of a job, with the named policies and the job's alternatives measured as its points are."""
    dtype = assembled.scenario.dtype
    alternatives = {
        name: assembled.incumbent._replace(policy=policy_of(values, dtype))
        for name, values in job.alternatives().items()
    }
    swept = _unrestricted(problem if job.frontier.scenarios else problem.each[0], job)
    worlds = frontiers(swept, sweep_of(job), named | alternatives, listener)
    tables = {name: frontier_table(points) for name, points in worlds.items()}
    return Swept(joined(tables), _trade_off_json(job, tables))


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
    return Effort(optimiser_paths, simulation.paths, simulation.seed, simulation.confidence, simulation.budget)


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


def _measured_json(
    job: Job,
    assembled: Assembled,
    parameters: Parameters,
    listener: Listener,
    stage: str,
    *,
    seed: int | None = None,
    paths: int | None = None,
) -> tuple[dict[str, Any], Sample]:
    """Metrics under a policy, and the sample that they are of."""
    seed = derived_seed(job.simulation.seed, "certificate", 1) if seed is None else seed
    sample, _ = measured(
        assembled.scenario,
        parameters,
        limits_of(job, assembled),
        sampling=job.simulation.sampling,
        seed=seed,
        paths=paths or job.simulation.paths,
        stage=stage,
        listener=listener,
        tail_level=job.simulation.tail_level,
    )
    metrics = metrics_of(sample, job.simulation.tail_level)
    content = _as_json(job, assembled, metrics, sample.paths, seed)
    return content | {"policy": policy_in_human_units(parameters.policy)}, sample


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
    job: Job,
    assembled: Assembled,
    problem: Problem,
    recommendation: Recommendation,
    easing: Easing | None,
    native: Native | None,
) -> dict[str, Any]:
    proposed = recommendation.status != "infeasible"
    parameters = recommendation.solution.parameters(problem) if proposed else assembled.incumbent
    values = {name: float(f"{value:.6g}") for name, value in policy_in_human_units(parameters.policy).items()}
    if native is not None:
        values |= native.moved_to(policy_in_human_units(parameters.policy)).policy()
    policy = {}
    for name, choice in job.policy.choices().items():
        # What is not free moves only where a venue's rules tie it to what is.
        value = values[name] if proposed and (choice.free or native is not None) else choice.value
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
        "limits_doubled": None if easing is None else easing.if_doubled(),
    }
    certificate = recommendation.certificate
    scenarios = (OWN, *(name for name, _ in problem.others))
    if certificate is not None:
        content["certificate"] = {
            "paths": certificate.paths,
            "seed": certificate.seed,
            "attempts": certificate.attempt,
            "confidence": certificate.confidence,
            **_sampling_json(certificate.chosen),
            "constraints": [
                {
                    "name": h.name,
                    "limit": h.limit,
                    **h.estimate.as_json(),
                    "upper": h.upper,
                    "satisfied": h.satisfied,
                    "diagnosis": h.diagnosis._asdict() if h.diagnosis else None,
                    "shadow_price": recommendation.solution.prices.get(h.name, 0.0),
                    "by_scenario": None if h.parts is None else dict(zip(scenarios, h.parts, strict=True)),
                }
                for h in certificate.holdings
            ],
        }
    return content


def _sampling_json(chosen: Chosen) -> dict[str, Any]:
    """How paths were drawn. `gain` is how many plain paths tell as much as one."""
    if chosen.sampling is None:
        return {"sampling": "plain"}
    return {"sampling": "importance", "plain_share": DEFENSIVE_SHARE, "gain": round(chosen.gain, 1)}


def frontier_table(points: list[FrontierPoint]) -> pd.DataFrame:
    """One row a point, in human units."""
    table = pd.DataFrame([_frontier_row(point) for point in points])
    table.insert(list(table.columns).index("certified") + 1, "dominated", dominated(table))
    return table


def _trade_off_json(job: Job, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """About the frontier of the job's own world, and where others were swept, by name about theirs."""
    corner = {"max_leverage": NO_LEVERAGE, "insolvency_probability": job.frontier.loosest}
    told = {
        name: {
            "hypervolume": hypervolume(table, job.frontier.loosest).as_json() | {"reference": corner},
            "standings": [standing.as_json() for standing in standings(table)],
        }
        for name, table in tables.items()
    }
    content = {"axes": {"x": job.frontier.x, "y": job.frontier.y}} | told.pop(OWN)
    return content | ({"scenarios": told} if told else {})


def _write_frontier(folder: Path, swept: Swept) -> None:
    write_table(folder / "frontier", swept.table)
    write_json(folder / "frontier.json", swept.trade_off)


def _frontier_row(point: FrontierPoint) -> dict[str, Any]:
    m = point.metrics
    probability, margin, cost = m["insolvency_probability"], m["margin_per_oi"], m["user_cost"]
    shortfall = next(name for name in m if name.startswith("bad_debt_es"))
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
        f"{shortfall}_standard_error": m[shortfall].standard_error,
        f"{shortfall}_low": m[shortfall].interval[0],
        f"{shortfall}_high": m[shortfall].interval[1],
        "certified": point.certified,
        "paths": point.paths,
    } | policy_in_human_units(point.parameters.policy)


def record(loaded: LoadedJob, seconds: float) -> dict[str, Any]:
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
    """The files that a job, its venue and its scenarios name, each once."""
    jobs = (loaded.job, *loaded.variants.values())
    models = [model_path(job.market.model, loaded) for job in jobs if job.market.model is not None]
    positions = [loaded.folder / job.book.positions for job in jobs if job.book.positions is not None]
    venues = [loaded.preset.path] if loaded.preset else []
    histories = [loaded.folder / job.market.replay for job in jobs if job.market.replay is not None]
    return list(dict.fromkeys([*models, *histories, *positions, *loaded.section_files, *venues]))


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far; not known on Windows."""
    if platform.system() == "Windows":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if platform.system() == "Darwin" else 1024)
