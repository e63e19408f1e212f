"""How fast the engine is here, beside what one would write without it: `python benchmarks/speed.py --output results.json`.

Everything is measured on the shipped ETH job (two cohorts, log-OU volatility, jumps, push oracle, cascade) on all cores: shocks
alone, the market alone, the whole engine, the engine with 3, 6 and 12 derivatives, 8 candidate policies on shared shocks. Beside
each stand the same venue in NumPy (`baselines.py`), in numba (`baselines_numba.py`, with the extra `bench`) and with `jax.random`
in the scan (`baselines_jax.py`), where they can do it; in place of derivatives numba takes difference quotients. All take turns,
back and forth, and the best of each counts, so that what else the machine does falls on all alike. That they simulate the same
venue is checked on the way: means within five standard errors. At the end a simulation runs in one process and in two,
the default job from a cold start, and small commands cold and warm. On a GPU the same command measures JAX there and the others on
the host's cores.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from calibrate.runtime import configure

configure()

import baselines  # noqa: E402
import baselines_jax  # noqa: E402
import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from baselines import Candidate, Stated, stated  # noqa: E402
from jax import lax  # noqa: E402

from calibrate.assemble import Assembled, assemble  # noqa: E402
from calibrate.candidates import simulate_many  # noqa: E402
from calibrate.chunking import CHUNK  # noqa: E402
from calibrate.job import load_job  # noqa: E402
from calibrate.sampling import PlainSampling  # noqa: E402
from calibrate.shipped import shipped_folder  # noqa: E402
from calibrate.shocks import path_ids, seed_words, shocks_of_steps  # noqa: E402
from calibrate.simulate import simulate  # noqa: E402

numba = importlib.util.find_spec("numba")
if numba:
    import baselines_numba

CORES = os.cpu_count() or 1
JOBS = shipped_folder("configs")
FIELDS = ("distance", "bad_debt", "liquidated_share", "penalty", "slippage", "initial_margin")
# In the order in which 3, 6 and 12 of them are taken.
PARAMETERS = (
    *("base_margin", "volatility_multiplier", "penalty"),
    *("initial_ratio", "volatility_scale", "depth_scale"),
    *("keeper_share", "forecast_memory", "margin_floor", "stress_weight", "margin_rise", "margin_fall"),
)
# What gives all twelve something to do.
DAMPED = (
    "venue.stressed_volatility=1.5",
    "policy.stress_weight=0.25",
    "policy.margin_rise_bps_per_hour=200",
    "policy.margin_fall_bps_per_hour=20",
)
BASE_MARGINS_BPS = (100, 150, 200, 250, 300, 350, 400, 450)
SIGMAS = 5.0
# Who has taken so long in one race sits out its other rounds.
PATIENCE_S = 10.0
# Paths of a command that is measured for its start.
FEW = 4 * CHUNK


class Sizes(NamedTuple):
    """Paths of each kind of contestant, paths at a time in JAX (None: as the engine chooses), and how often all take turns."""

    jax: int
    numba: int
    numpy: int
    chunk: int | None
    rounds: int

    @property
    def at_a_time(self) -> int:
        """For what is not the engine: the engine's own choice on a CPU, and about that on a GPU."""
        return self.chunk or min(CHUNK if jax.default_backend() == "cpu" else 2**17, self.jax)

    @property
    def for_many(self) -> "Sizes":
        """Where every path is followed several times."""
        return self._replace(jax=self.jax // 2, numba=self.numba // 4, numpy=self.numpy // 4)


class Contestant(NamedTuple):
    """A way to do the work: for a number of paths. What compiles is called once before it is timed."""

    name: str
    work: Callable[[int], Any]
    paths: int
    compiles: bool = True


class Time(NamedTuple):
    """What a contestant needed for each step of each path (and candidate), over all cores; `over_engine` of the first."""

    what: str
    contestant: str
    nanoseconds: float
    median_nanoseconds: float
    million_per_second: float
    over_engine: float
    paths: int


def race(what: str, contestants: list[Contestant], steps: int, rounds: int) -> Iterator[Time]:
    """Times of all, who take turns: forth in one round, back in the next."""
    print(f"{what} ...", file=sys.stderr, flush=True)
    for contestant in contestants:
        if contestant.compiles:
            contestant.work(contestant.paths)
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for order in itertools.islice(itertools.cycle((contestants, contestants[::-1])), rounds):
        for contestant in order:
            if sum(taken[contestant.name]) < PATIENCE_S:
                started = time.perf_counter()
                contestant.work(contestant.paths)
                taken[contestant.name].append(time.perf_counter() - started)
    reference = min(taken[contestants[0].name]) / contestants[0].paths
    for name, _, paths, _ in contestants:
        best, middle = (each(taken[name]) / (paths * steps) for each in (min, statistics.median))
        yield Time(what, name, 1e9 * best, 1e9 * middle, 1e-6 / best, best * steps / reference, paths)


# --- what is raced --------------------------------------------------------------------------------------------------------


class Venue(NamedTuple):
    """A job, for the engine and in plain numbers."""

    made: Assembled
    said: Stated

    @classmethod
    def of(cls, *overrides: str) -> "Venue":
        loaded = load_job(JOBS / "eth-perp.toml", overrides)
        return cls(assemble(loaded), stated(loaded))


def shocks(venue: Venue, sizes: Sizes) -> list[Contestant]:
    steps, chunk = venue.made.scenario.steps, sizes.at_a_time

    def engine(paths: int) -> None:
        in_chunks(lambda first: engine_shocks(jnp.uint32(first), steps, chunk), paths, chunk)

    def jax_random(paths: int) -> None:
        in_chunks(lambda first: baselines_jax.shocks_alone(jnp.uint32(first), steps, chunk), paths, chunk)

    def numpy(paths: int) -> None:
        baselines.shocks_alone(steps, seed=1, paths=paths, threads=CORES)

    return [
        Contestant("engine", engine, sizes.jax),
        Contestant("jax.random", jax_random, sizes.jax),
        *with_numba(lambda paths: baselines_numba.shocks_alone(steps, 1, paths), sizes),
        Contestant("NumPy", numpy, sizes.numpy, compiles=False),
    ]


def market(venue: Venue, sizes: Sizes) -> list[Contestant]:
    """The last undisturbed log-price: the compiler leaves out what it does not depend on."""
    setting = venue.said.setting

    def numpy(paths: int) -> None:
        baselines.market_alone(setting, seed=1, paths=paths, threads=CORES)

    return [
        Contestant("engine", engine(venue, sizes, fields=("final_log_price",)), sizes.jax),
        Contestant("jax.random", jax_random(venue, sizes, ("final_log_price",)), sizes.jax),
        *with_numba(lambda paths: baselines_numba.market_alone(setting, 1, paths), sizes),
        Contestant("NumPy", numpy, sizes.numpy, compiles=False),
    ]


def whole(venue: Venue, sizes: Sizes) -> list[Contestant]:
    incumbent = [venue.said.incumbent]
    return [
        Contestant("engine", engine(venue, sizes), sizes.jax),
        Contestant("jax.random", jax_random(venue, sizes, FIELDS), sizes.jax),
        *with_numba(lambda paths: baselines_numba.simulate(venue.said, incumbent, seed=1, paths=paths), sizes),
        Contestant("NumPy", numpy_venue(venue, incumbent), sizes.numpy, compiles=False),
    ]


def derivatives(venue: Venue, sizes: Sizes, number: int) -> list[Contestant]:
    """The value and its derivatives. Difference quotients follow the same paths once more for each parameter."""
    names, incumbent = PARAMETERS[:number], venue.said.incumbent
    moved = [incumbent, *(incumbent._replace(**{name: 1.0001 * getattr(incumbent, name)}) for name in names)]
    return [
        Contestant("engine", engine(venue, sizes, derivatives=names), sizes.jax),
        Contestant("engine, value alone", engine(venue, sizes), sizes.jax),
        *with_numba(lambda paths: baselines_numba.simulate(venue.said, moved, seed=1, paths=paths), sizes),
    ]


def candidates(venue: Venue, sizes: Sizes) -> list[Contestant]:
    policies = [venue.said.incumbent._replace(base_margin=1e-4 * bps) for bps in BASE_MARGINS_BPS]
    made = [on(venue, policy) for policy in policies]
    scenario, each = venue.made.scenario, [one.made.incumbent for one in made]

    def one_by_one(paths: int) -> None:
        for one in made:
            engine(one, sizes)(paths)

    return [
        Contestant(
            "engine", lambda paths: simulate_many(scenario, each, seed=1, paths=paths, fields=FIELDS), sizes.jax
        ),
        Contestant("engine, one by one", one_by_one, sizes.jax),
        *with_numba(lambda paths: baselines_numba.simulate(venue.said, policies, seed=1, paths=paths), sizes),
        Contestant("NumPy", numpy_venue(venue, policies), sizes.numpy, compiles=False),
    ]


def on(venue: Venue, policy: Candidate) -> Venue:
    """The venue under a policy of another base margin."""
    incumbent = venue.made.incumbent
    base = jnp.asarray(policy.base_margin, venue.made.scenario.dtype)
    changed = incumbent._replace(policy=incumbent.policy._replace(base_margin=base))
    return Venue(venue.made._replace(incumbent=changed), venue.said._replace(incumbent=policy))


def engine(venue: Venue, sizes: Sizes, fields=FIELDS, derivatives=()) -> Callable[[int], Any]:  # type: ignore[no-untyped-def]
    scenario, incumbent = venue.made.scenario, venue.made.incumbent
    return lambda paths: (
        simulate(
            scenario, incumbent, seed=1, paths=paths, fields=fields, derivatives=derivatives, chunk=sizes.chunk
        ).values
    )


def jax_random(venue: Venue, sizes: Sizes, fields: tuple[str, ...]) -> Callable[[int], Any]:
    scenario, incumbent, chunk = venue.made.scenario, venue.made.incumbent, sizes.at_a_time
    return lambda paths: baselines_jax.simulate(
        scenario, incumbent, fields, seed=1, paths=paths, threads=CORES, chunk=chunk
    )


def with_numba(work: Callable[[int], Any], sizes: Sizes) -> list[Contestant]:
    return [Contestant("numba", work, sizes.numba)] if numba else []


def numpy_venue(venue: Venue, policies: list[Candidate]) -> Callable[[int], Any]:
    return lambda paths: baselines.simulate(venue.said, policies, seed=1, paths=paths, threads=CORES)


@eqx.filter_jit
def engine_shocks(first: jax.Array, steps: int, paths: int) -> jax.Array:
    """The sum of every path's shocks, made in blocks as the engine makes them."""
    seed, ids = seed_words(1), path_ids(np.arange(paths))
    ids = ids._replace(low=ids.low + first)
    block = PlainSampling().block_length(steps)

    def run_block(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        numbers = (block * number + jnp.arange(block)).astype(jnp.uint32)
        made = shocks_of_steps(seed, ids, numbers, np.dtype(np.float32), continuous=False)

        def add(total: jax.Array, each) -> tuple[jax.Array, None]:  # type: ignore[no-untyped-def]
            return total + each.return_normal + each.volatility_normal + each.jump_uniform, None

        return lax.scan(add, total, made)[0], None

    return lax.scan(run_block, jnp.zeros(paths), jnp.arange(steps // block))[0]


def in_chunks(run: Callable[[int], jax.Array], paths: int, chunk: int) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda first: run(first).block_until_ready(), range(0, paths, chunk)))


# --- whether all simulate the same ----------------------------------------------------------------------------------------


def agreement(venue: Venue, sizes: Sizes) -> list[dict[str, Any]]:
    """Means of every contestant beside the engine's, and how many standard errors of their difference lie between them."""
    print("agreement ...", file=sys.stderr, flush=True)
    reference, *others = whole(venue, sizes)
    own = moments(reference.work(reference.paths))
    rows = []
    for other in others:
        found = moments(other.work(other.paths))
        for name, (mean, error) in found.items():
            both = np.hypot(error, own[name][1])
            gap = abs(mean - own[name][0]) / both if both > 0 else 0.0
            rows.append(
                {"contestant": other.name, "mean_of": name, "value": mean, "engine": own[name][0],
                 "standard_error": both, "standard_errors_apart": gap}
            )  # fmt: skip
    return rows


def moments(values: Any) -> dict[str, tuple[float, float]]:
    """Mean and its standard error of what all contestants tell."""
    if isinstance(values, list):
        values = values[0]
    if "distance" in values:
        values = values | {"insolvent": values["distance"] > 0}
    chosen = {name: np.asarray(values[name], np.float64) for name in baselines.OUTCOMES}
    return {name: (float(v.mean()), float(v.std() / np.sqrt(v.size))) for name, v in chosen.items()}


# --- commands -------------------------------------------------------------------------------------------------------------


def commands(job: Path, rounds: int) -> dict[str, Any]:
    """Seconds of whole commands. Cold: no compiled program is kept from before; a command's own start always counts."""
    print("commands ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        small = ("simulate", str(JOBS / "eth-perp.toml"), "--set", "simulation.paths=1000", "--json")
        told: dict[str, Any] = {
            "help_s": min(seconds(("--help",), folder) for _ in range(rounds)),
            "simulate_1000_paths_cold_s": seconds(small, folder),
            "simulate_1000_paths_warm_s": min(seconds(small, folder) for _ in range(rounds)),
        }
        print(f"{job.stem} end to end ...", file=sys.stderr, flush=True)
        run = Path(folder) / "run"
        told["job"] = job.stem
        told["job_cold_s"] = seconds(("run", str(job), "--output", str(run)), f"{folder}/cold")
        told["job_status"] = json.loads((run / "recommended.json").read_text(encoding="utf-8"))["status"]
        told["job_peak_memory_mb"] = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))["peak_memory_mb"]
    return told


def processes(paths: int, rounds: int) -> dict[str, Any]:
    """Seconds that so many paths take one process on one core, and two on one core each: of a whole command, less those of one
    with few paths, which starts, meets and compiles as well."""
    print("processes ...", file=sys.stderr, flush=True)
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2:
        return {}
    ways = {"one_process_one_core": allowed[:1], "two_processes_two_cores": allowed[:2]}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:

        def took(number: int, some: int) -> float:
            job = ("simulate", str(JOBS / "eth-perp.toml"), "--json", "--processes", str(number))
            return seconds((*job, "--set", "simulation.sampling=plain", "--set", f"simulation.paths={some}"), folder)

        for turn in range(1 + rounds):
            for name, own in ways.items():
                os.sched_setaffinity(0, own)  # which what is started here inherits
                short = took(len(own), FEW)
                if turn > 0:  # the first compiles
                    taken[name].append(took(len(own), FEW + paths) - short)
        os.sched_setaffinity(0, allowed)
    told: dict[str, Any] = {f"{name}_s": min(each) for name, each in taken.items()}
    one, two = told.values()
    return told | {"processes_paths": paths, "two_processes_over_one": one / two}


def seconds(arguments: tuple[str, ...], programs: str) -> float:
    """How long a command takes that keeps its compiled programs in a folder."""
    kept = {"XDG_CACHE_HOME": programs, "JAX_COMPILATION_CACHE_DIR": programs}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "calibrate", *arguments], env=os.environ | kept, capture_output=True, check=False
    )
    took = time.perf_counter() - started
    if done.returncode not in (0, 1):  # 1: not certified, which is an answer too
        sys.exit(f"calibrate {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr.decode()}")
    return took


# --- the table ------------------------------------------------------------------------------------------------------------


def where() -> dict[str, Any]:
    packages = ("calibrate", "jax", "jaxlib", "numpy", *(("numba",) if numba else ()))
    return {
        "device": str(jax.devices()[0].device_kind),
        "devices": jax.device_count(),
        "processor": processor(),
        "cores": CORES,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def processor() -> str:
    """The processor's name; Python knows only its family on Linux."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def measured(sizes: Sizes) -> Iterator[Time]:
    venue, damped = Venue.of(), Venue.of(*DAMPED)
    steps = venue.made.scenario.steps
    yield from race("shocks", shocks(venue, sizes), steps, sizes.rounds)
    yield from race("market", market(venue, sizes), steps, sizes.rounds)
    yield from race("engine", whole(venue, sizes), steps, sizes.rounds)
    for number in (3, 6, 12):
        what = f"value and {number} derivatives"
        yield from race(what, derivatives(damped, sizes.for_many, number), steps, sizes.rounds)
    eight = candidates(venue, sizes.for_many)
    yield from race("8 candidates", eight, steps * len(BASE_MARGINS_BPS), sizes.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    on_cpu, own = jax.default_backend() == "cpu", 8192 * CORES
    parser.add_argument("--output", type=Path, help="Where to save the tables as JSON.")
    parser.add_argument("--paths", type=int, default=own if on_cpu else 2**20, help="Paths in JAX.")
    parser.add_argument("--chunk", type=int, help="Paths at a time in JAX; the engine's choice if left out.")
    parser.add_argument("--rounds", type=int, default=3, help="How often all take turns.")
    parser.add_argument("--job", type=Path, default=JOBS / "eth-perp.toml", help="Job to run end to end.")
    options = parser.parse_args()
    own = min(options.paths, own)
    sizes = Sizes(options.paths, own, own // 2, options.chunk, options.rounds)

    rows = []
    print(f"{'':<26}{'':<22}{'ns':>9}{'median':>9}{'million/s':>11}{'over engine':>13}")
    for row in measured(sizes):
        print(
            f"{row.what:<26}{row.contestant:<22}{row.nanoseconds:>9.4g}{row.median_nanoseconds:>9.4g}"
            f"{row.million_per_second:>11.4g}{row.over_engine:>13.3g}",
            flush=True,
        )
        rows.append(row._asdict())
    same = agreement(Venue.of(), sizes)
    apart = max(row["standard_errors_apart"] for row in same)
    print(f"means of all contestants: at most {apart:.1f} standard errors from the engine's")
    told = processes(64 * CHUNK, options.rounds) | commands(options.job, options.rounds)
    for name, value in told.items():
        print(f"{name:<30}{value:>12.3g}" if isinstance(value, float) else f"{name:<30}{value:>12}")
    if options.output:
        table = {**where(), "sizes": sizes._asdict(), "steps": Venue.of().made.scenario.steps, "times": rows,
                 "agreement": same, "commands": told}  # fmt: skip
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    if apart > SIGMAS:
        sys.exit("the contestants do not simulate the same: their times mean nothing")


if __name__ == "__main__":
    main()
