"""What a venue's rules cost: `python benchmarks/presets.py --output benchmarks/results/presets.json`.

One market of every venue's preset is simulated on the shipped ETH job's market, liquidity and book, beside the plain engine: the
same job with an exact oracle, a margin of one number, keepers without limits and no rule of section 9 of `docs/rules.md`. Each
takes turns with it, back and forth, and the best of both counts, so that what else the machine does falls on both alike. What
counts is the ratio; a preset should cost no more than three times the plain engine.
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from calibrate.runtime import configure

configure()

from own_markets import OWN  # noqa: E402
from speed import FIELDS, JOBS, where  # noqa: E402

from calibrate.assemble import Assembled, assemble  # noqa: E402
from calibrate.job import job_of  # noqa: E402
from calibrate.presets import rules_of, shipped_presets  # noqa: E402
from calibrate.simulate import simulate  # noqa: E402

MOST = 3.0
PLAIN = """
[oracle]
kind = "exact"
[venue]
insurance_fund_usd = 300e3
keepers = "unlimited"
[policy]
base_margin_bps = 300
volatility_multiplier = 0
penalty_bps = 100
"""


class Cost(NamedTuple):
    """Nanoseconds of a step of a path, best of all rounds, over the plain engine's in the same rounds."""

    preset: str
    rules: list[str]
    nanoseconds: float
    plain_nanoseconds: float
    over_plain: float


def made(sections: str, *overrides: str) -> tuple[Assembled, list[str]]:
    """The shipped job's world with another venue, and which rules that one has."""
    path = JOBS / "eth-perp.toml"
    kept = tomllib.loads(path.read_text(encoding="utf-8"))
    world = [f"{key}={literal(kept[key])}" for key in ("market", "liquidity", "book")]
    text = f'name = "COST"\n{sections}\n[constraints]\ninsolvency_probability = 0.1\n'
    loaded = job_of(text, path, [*world, *overrides])
    rules = {} if loaded.preset is None else rules_of(loaded.preset)
    return assemble(loaded), [key for key, value in rules.items() if isinstance(value, dict)]


def literal(value: Any) -> str:
    """TOML of what a job holds."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {literal(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value)


def of_preset(name: str, *overrides: str) -> tuple[Assembled, list[str]]:
    own = f"native = {{ {OWN[name]} }}\n" if name in OWN else ""
    return made(f'[venue]\npreset = "{name}"\ninsurance_fund_usd = 300e3\n{own}', *overrides)


def seconds(venue: Assembled, paths: int) -> float:
    started = time.perf_counter()
    simulate(venue.scenario, venue.incumbent, seed=1, paths=paths, fields=FIELDS)
    return time.perf_counter() - started


def cost(name: str, plain: Assembled, overrides: list[str], paths: int, rounds: int) -> Cost:
    venue, rules = of_preset(name, *overrides)
    taken: tuple[list[float], list[float]] = ([], [])
    pair = [(plain, taken[0]), (venue, taken[1])]
    for each, _ in pair:
        seconds(each, paths)  # compiles
    for number in range(rounds):
        for each, times in pair if number % 2 == 0 else pair[::-1]:
            times.append(seconds(each, paths))
    unit = 1e9 / (paths * plain.scenario.steps)
    return Cost(name, rules, unit * min(taken[1]), unit * min(taken[0]), min(taken[1]) / min(taken[0]))


def one_of_each() -> list[str]:
    """The first market of every venue."""
    first: dict[str, str] = {}
    for name in shipped_presets():
        first.setdefault(name.partition(":")[0], name)
    return list(first.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="Where to save the table as JSON.")
    parser.add_argument("--presets", nargs="*", default=one_of_each(), help="Which ones.")
    parser.add_argument("--paths", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=240, help="Steps of a minute.")
    parser.add_argument("--rounds", type=int, default=5, help="How often both take turns.")
    options = parser.parse_args()

    sizes = [f"simulation.horizon_days={options.steps / 1440!r}", "simulation.step_s=60"]
    plain, _ = made(PLAIN, *sizes)
    rows: list[Cost] = []
    print(f"{'':<24}{'ns':>9}{'plain':>9}{'over plain':>12}")
    for name in options.presets:
        rows.append(cost(name, plain, sizes, options.paths, options.rounds))
        row = rows[-1]
        late = "  above" if row.over_plain > MOST else ""
        print(
            f"{name:<24}{row.nanoseconds:>9.4g}{row.plain_nanoseconds:>9.4g}{row.over_plain:>12.3g}{late}", flush=True
        )
        if options.output:
            # After every preset, so that what has been measured is not lost.
            size = {"paths": options.paths, "steps": plain.scenario.steps, "rounds": options.rounds}
            table = {**where(), "sizes": size, "most": MOST, "times": [each._asdict() for each in rows]}
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    above = [row.preset for row in rows if row.over_plain > MOST]
    print(f"above {MOST:g} times: {', '.join(above) or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main()
