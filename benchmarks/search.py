"""How long a search takes, and whether it finds the same policy from anywhere: `python benchmarks/search.py --output results.json`.

The default job at an insolvency probability of 1e-4, with 3 free parameters under 2 limits from its incumbent and from random
starts, and with 8 under 4. Every recommendation is certified; what it costs, margin and what users pay, is estimated on the paths
of its certificate, and how much that may differ by chance is told beside it. Seconds are those from the assembled job to the
certificate, compilation included where nothing is kept.
"""

import argparse
import itertools
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.assemble import assemble
from calibrate.job import load_job
from calibrate.metrics import user_cost
from calibrate.optimise import Problem
from calibrate.pipeline import effort_of, problem_of
from calibrate.progress import Silent
from calibrate.recommend import Effort, Recommendation, recommend
from calibrate.runtime import configure
from calibrate.shipped import shipped_folder
from calibrate.simulate import with_values

JOB = "eth-perp"
THREE = ["constraints.insolvency_probability=1e-4", "constraints.bad_debt_es_usd=20e3"]
EIGHT = [
    *THREE,
    "constraints.account_insolvency_rate=1e-5",
    "constraints.margin_rise=0.15",
    "venue.stressed_volatility=2.0",
    "policy.margin_floor_bps={ value = 50, free = true, low = 10, high = 400 }",
    "policy.initial_ratio={ value = 2.0, free = true, low = 1.2, high = 4.0 }",
    "policy.keeper_share={ value = 0.5, free = true, low = 0.1, high = 0.9 }",
    "policy.forecast_memory_hours={ value = 24, free = true, low = 4, high = 96 }",
    "policy.stress_weight={ value = 0.25, free = true, low = 0.0, high = 0.75 }",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5, help="Random starts of the search in three parameters.")
    parser.add_argument("--set", action="append", default=[], help="Further changes to the job, as KEY=VALUE.")
    parser.add_argument("--output", type=Path, help="Where to save the table as JSON.")
    options = parser.parse_args()
    configure()
    rows = [searched("3 parameters, 2 limits", THREE + options.set, start) for start in range(options.starts + 1)]
    print(f"random starts cost up to {farthest(rows):.1f} standard errors more or less than each other")
    rows.append(searched("8 parameters, 4 limits", EIGHT + options.set, 0))
    if options.output:
        machine = {"processor": platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {package: version(package) for package in ("jax", "jaxlib", "numpy")}
        told = {"job": JOB, "changes": options.set, "machine": machine | versions, "searches": rows}
        options.output.write_text(json.dumps(told, indent=1) + "\n")


def farthest(rows: list[dict[str, Any]]) -> float:
    """The largest difference of two costs in its standard errors: those of the costs, and of the limits that are kept."""
    known = [(row["cost"], np.hypot(row["standard_error"], row["error_by_limits"])) for row in rows if "cost" in row]
    gaps = [abs(a - b) / np.hypot(e, f) for (a, e), (b, f) in itertools.combinations(known, 2)]
    return float(max(gaps, default=0.0))


def searched(name: str, changes: list[str], start: int) -> dict[str, Any]:
    """One search, from the incumbent (start 0) or from a random policy within the bounds."""
    loaded = load_job(shipped_folder("configs") / f"{JOB}.toml", changes)
    problem = problem_of(loaded, assemble(loaded))
    if start:
        problem = problem._replace(incumbent=anywhere(problem, start))
    before = time.perf_counter()
    found = recommend(problem, effort_of(loaded.job), Silent())
    seconds = time.perf_counter() - before
    row = {"search": name, "start": start, "seconds": round(seconds, 1), "status": found.status}
    row |= described(problem, found, effort_of(loaded.job))
    print(row, flush=True)
    return row


def anywhere(problem: Problem, start: int) -> Any:
    uniform = np.random.default_rng(start).random(len(problem.low))
    values = (problem.low + (problem.high - problem.low) * uniform).astype(problem.scenario.dtype)
    return with_values(problem.incumbent, problem.names, values)


def described(problem: Problem, found: Recommendation, effort: Effort) -> dict[str, Any]:
    point = dict(zip(problem.names, [float(f"{value:.4g}") for value in found.solution.point], strict=True))
    if found.certificate is None:
        return {"point": point, "message": found.message}
    sample = found.certificate.sample
    cost = sample.values["initial_margin"] + problem.user_cost_weight * user_cost(sample.values)
    weights = np.ones(sample.paths) if sample.weights is None else sample.weights
    mean = np.average(cost, weights=weights)
    error = np.sqrt((weights**2 * (cost - mean) ** 2).sum()) / weights.sum()
    # How tight a policy is proposed depends on how well the limits are known: as well as on a certificate's paths.
    known = [
        found.solution.prices.get(h.name, 0.0) * h.estimate.standard_error / h.estimate.value
        for h in found.certificate.holdings
        if h.estimate.value > 0
    ]
    return {
        "point": point,
        "cost": round(float(mean), 6),
        "standard_error": round(float(error), 6),
        "error_by_limits": round(float(mean * np.linalg.norm(known)), 6),
        "attempts": found.certificate.attempt,
        "paths": found.certificate.paths,
        "upper_over_limit": {h.name: round(h.upper / h.limit, 3) for h in found.certificate.holdings},
        "paths_asked_for": effort.paths,
    }


if __name__ == "__main__":
    main()
