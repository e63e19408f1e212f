"""How many paths a rare insolvency takes, plainly and drawn from where losses are: `python benchmarks/rare_events.py`.

For policies of the default job from bold to safe, both ways are measured on the same number of paths, and the number that a
relative error of a tenth would take is worked out from each way's variance. One more policy is measured in a market of which calm
days leave it unharmed: one that crashes once a year (`eth-usd-crashes.toml`).
"""

import argparse
import json
import platform
import time
from pathlib import Path

import jax
import numpy as np

from calibrate.assemble import assemble
from calibrate.certify import measured
from calibrate.constraints import InsolvencyProbability
from calibrate.job import load_job
from calibrate.progress import Silent
from calibrate.runtime import configure
from calibrate.shipped import shipped_folder
from calibrate.simulate import simulate, with_values
from calibrate.weighing import diagnose, probability_and_error

NAMES = ("base_margin", "volatility_multiplier", "penalty")
# Tolerance that the way of drawing is learned for, and a policy near it.
POLICIES = {
    1e-3: (0.0276, 1.7, 0.034),
    1e-4: (0.0407, 2.3, 0.04),
    1e-5: (0.05, 2.5, 0.04),
    1e-6: (0.06, 3.0, 0.04),
}
# A market with crashes, and a policy that only they harm.
CRASHES, CRASH_TOLERANCE, CRASH_POLICY = Path(__file__).with_name("eth-usd-crashes.toml"), 1e-5, (0.06, 3.0, 0.04)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=131_072)
    parser.add_argument("--output", type=Path, help="Where to save the table as JSON.")
    options = parser.parse_args()
    configure()
    job = shipped_folder("configs") / "eth-perp.toml"
    assembled, crashing = assemble(load_job(job)), assemble(load_job(job, (f"market.model='{CRASHES}'",)))
    asked = [("eth-usd", assembled, tolerance, values) for tolerance, values in POLICIES.items()]
    rows = []
    for market, world, tolerance, values in (*asked, (CRASHES.stem, crashing, CRASH_TOLERANCE, CRASH_POLICY)):
        parameters = with_values(world.incumbent, NAMES, np.array(values, np.float32))
        rows.append({"market": market, **row(world.scenario, parameters, tolerance, options.paths)})
        told = (f"{name} {value if name == 'market' else format(value, '.4g')}" for name, value in rows[-1].items())
        print("  ".join(told), flush=True)
    if options.output:
        where = {
            "device": str(jax.devices()[0].device_kind),
            "python": platform.python_version(),
            "jax": jax.__version__,
        }
        options.output.write_text(json.dumps({**where, "paths": options.paths, "rows": rows}, indent=2) + "\n")


def row(scenario, parameters, tolerance: float, paths: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    limit = (InsolvencyProbability(tolerance),)
    weighted, _ = measured(
        scenario,
        parameters,
        limit,
        sampling="importance",
        seed=1,
        paths=paths,
        stage="",
        listener=Silent(),
        tail_level=0.99,
    )
    took = time.perf_counter() - started
    assert weighted.weights is not None
    hit = weighted.values["distance"] > 0
    value, error = probability_and_error(hit, weighted.weights)
    started = time.perf_counter()
    plain = simulate(scenario, parameters, seed=2, paths=paths, fields=("distance",))
    plain_took = time.perf_counter() - started
    relative_variance = (error / value) ** 2 * paths
    return {
        "probability": value,
        "standard_error": error,
        "plain": float(np.mean(plain.values["distance"] > 0)),
        "effective_paths": diagnose(hit, weighted.weights).effective_paths,
        "paths_for_a_tenth": 100 * relative_variance,
        "plain_paths_for_a_tenth": 100 * (1 / value - 1),
        "fewer_paths": (1 / value - 1) / relative_variance,
        "seconds": took,
        "plain_seconds": plain_took,
    }


if __name__ == "__main__":
    main()
