"""Do certified recommendations keep their limits when tested again, far more sharply? `python benchmarks/recertify.py`.

For several seeds of several jobs a policy is recommended and certified; then the same limits are estimated again on fresh
weighted paths, which tell as much as a hundred times the certificate's paths would if they were drawn plainly. A recommendation
fails if a limit is then exceeded by more than two standard errors.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.assemble import assemble
from calibrate.certify import measured
from calibrate.job import load_job
from calibrate.pipeline import effort_of, problem_of
from calibrate.progress import Silent
from calibrate.recommend import recommend
from calibrate.runtime import configure
from calibrate.shipped import shipped_folder
from calibrate.shocks import derived_seed

# Shorter steps only cost time here; what is tested is the certificate.
JOBS = {
    "quickstart": ["simulation.sampling='importance'"],
    "eth-perp": ["simulation.step_s=600", "simulation.paths=50_000"],
    "btc-perp": ["simulation.step_s=600", "simulation.paths=50_000", "constraints.insolvency_probability=1e-4"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--paths", type=int, default=500_000, help="Fresh weighted paths of each test.")
    parser.add_argument(
        "--output", type=Path, help="Where to save the table as JSON; what stands there already is not done again."
    )
    options = parser.parse_args()
    configure()
    done = json.loads(options.output.read_text())["rows"] if options.output and options.output.exists() else []
    for seed in range(1, options.seeds + 1):
        for name, changes in JOBS.items():
            if any(row["job"] == name and row["seed"] == seed for row in done):
                continue
            done.append({"job": name, "seed": seed} | tested(name, changes, seed, options.paths))
            print(done[-1], flush=True)
            if options.output:
                whole = {"table": [summary(name, done) for name in JOBS], "rows": done}
                options.output.write_text(json.dumps(whole, indent=1) + "\n")
    for name in JOBS:
        print(summary(name, done))


def summary(name: str, done: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in done if row["job"] == name]
    certified = [row for row in rows if row["certified"]]
    return {
        "job": name,
        "seeds": len(rows),
        "certified": len(certified),
        "at_first_attempt": sum(row["attempt"] == 1 for row in certified),
        "limits_exceeded": sum(row["excess"] > 1 + 2 * row["relative_error"] for row in certified),
        "largest_share_of_limit": max((row["excess"] for row in certified), default=None),
        "largest_relative_error": max((row["relative_error"] for row in certified), default=None),
    }


def tested(name: str, changes: list[str], seed: int, paths: int) -> dict[str, Any]:
    loaded = load_job(shipped_folder("configs") / f"{name}.toml", [*changes, f"simulation.seed={seed}"])
    assembled = assemble(loaded)
    problem = problem_of(loaded, assembled)
    found = recommend(problem, effort_of(loaded.job), Silent())
    if found.status != "certified" or found.certificate is None:
        return {"certified": False, "status": found.status}
    fresh, _ = measured(
        problem.scenario,
        found.solution.parameters(problem),
        problem.constraints,
        sampling="importance",
        seed=derived_seed(seed, "tested again"),
        paths=paths,
        stage="",
        tail_level=problem.tail_level,
        listener=Silent(),
    )
    estimates = [limit.estimate(limit.contribution(fresh.values), fresh.weights) for limit in problem.constraints]
    excess = [e.value / limit.limit for e, limit in zip(estimates, problem.constraints, strict=True)]
    worst = int(np.argmax(excess))
    return {
        "certified": True,
        "attempt": found.certificate.attempt,
        "excess": float(excess[worst]),
        "relative_error": estimates[worst].standard_error / max(estimates[worst].value, 1e-300),
    }


if __name__ == "__main__":
    main()
