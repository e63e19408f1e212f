"""How fast the engine is here: `python benchmarks/speed.py [--json FILE]`.

Times the shipped ETH job's engine (two cohorts, log-OU volatility, jumps, push oracle, cascade) on all cores, and as a ratio in
the same run the derivatives, and a plain `jax.random` random walk of as many path-steps as the baseline for shocks.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

from calibrate.runtime import configure

configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from calibrate.assemble import assemble  # noqa: E402
from calibrate.job import load_job  # noqa: E402
from calibrate.shipped import shipped_folder  # noqa: E402
from calibrate.simulate import simulate  # noqa: E402

PATHS, REPEATS = 65_536, 5
FIELDS = ("distance", "initial_margin", "penalty", "slippage")
THREE = ("base_margin", "volatility_multiplier", "penalty")


def seconds(work) -> float:
    """Median over repeats, after one call that compiles."""
    work()
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def random_walk(paths: int, steps: int) -> None:
    """Two normals and a uniform a step from `jax.random`, inside a scan: the usual way to write a simulation."""

    @jax.jit
    def run(key: jax.Array) -> jax.Array:
        def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            first, second, third = jax.random.split(key, 3)
            shock = jax.random.normal(first, x.shape) + jax.random.normal(second, x.shape)
            return x + 1e-3 * shock * (jax.random.uniform(third, x.shape) > 1e-4), None

        return jax.lax.scan(step, jnp.zeros(paths), jax.random.split(key, steps))[0]

    run(jax.random.key(0)).block_until_ready()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    made = assemble(load_job(shipped_folder("configs") / "eth-perp.toml"))
    steps = made.scenario.steps

    def engine(paths: int, names: tuple[str, ...] = ()) -> None:
        simulate(made.scenario, made.incumbent, seed=1, paths=paths, fields=FIELDS, derivatives=names)

    value = seconds(lambda: engine(PATHS))
    few = seconds(lambda: engine(PATHS // 4))
    gradient = seconds(lambda: engine(PATHS // 4, THREE))
    walk = seconds(lambda: random_walk(PATHS // 4, steps))
    table = {
        "engine, million path-steps a second": PATHS * steps / value / 1e6,
        "value and 3 derivatives over value": gradient / few,
        "jax.random walk in a scan over whole engine, time": walk / few,
        "cores": os.cpu_count(),
        "device": str(jax.devices()[0].device_kind),
        "processor": platform.processor() or platform.machine(),
        "jax": version("jax"),
    }
    for name, figure in table.items():
        print(f"{name:<52}{figure:>12.3g}" if isinstance(figure, float) else f"{name:<52}{figure!s:>12}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
