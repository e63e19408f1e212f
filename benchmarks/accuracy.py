"""What single precision costs: every metric in float32 against float64 on the same paths: `python benchmarks/accuracy.py`.

Both draw the same random words, so that their difference is rounding alone: of the shocks, of the steps, and now and then of a
decision that falls the other way (a report, a jump, an insolvency). It is given relative to the metric and in standard errors of
the metric's own estimate on as many paths; what is far below one of those is drowned by chance. The default job's incumbent is
measured, and a bolder policy under which every metric rests on thousands of paths.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from calibrate.runtime import configure

configure()

import numpy as np  # noqa: E402

from calibrate.assemble import assemble  # noqa: E402
from calibrate.job import load_job  # noqa: E402
from calibrate.metrics import metrics_of  # noqa: E402
from calibrate.shipped import shipped_folder  # noqa: E402
from calibrate.simulate import Sample, simulate  # noqa: E402

POLICIES = {
    "incumbent": (),
    "bolder": ("policy.base_margin_bps.value=30", "policy.volatility_multiplier.value=0.3"),
}
TAIL_LEVEL = 0.99


def sample_of(overrides: tuple[str, ...], precision: str, paths: int) -> Sample:
    print(f"{', '.join(overrides) or 'incumbent'} in {precision} ...", file=sys.stderr, flush=True)
    loaded = load_job(shipped_folder("configs") / "eth-perp.toml", (*overrides, f"simulation.precision='{precision}'"))
    made = assemble(loaded)
    return simulate(made.scenario, made.incumbent, seed=1, paths=paths)


def compared(name: str, paths: int) -> dict[str, Any]:
    """Every metric of a policy, in both precisions."""
    single, double = (sample_of(POLICIES[name], precision, paths) for precision in ("float32", "float64"))
    short, long = (metrics_of(sample, TAIL_LEVEL) for sample in (single, double))
    otherwise = (single.values["distance"] > 0) != (double.values["distance"] > 0)
    rows = [
        {
            "metric": metric,
            "float64": long[metric].value,
            "standard_error": long[metric].standard_error,
            "relative_error": ratio(short[metric].value - long[metric].value, long[metric].value),
            "error_in_standard_errors": ratio(short[metric].value - long[metric].value, long[metric].standard_error),
        }
        for metric in long
    ]
    return {
        "policy": name,
        "insolvent_paths": int(np.count_nonzero(double.values["distance"] > 0)),
        "paths_judged_otherwise": int(np.count_nonzero(otherwise)),
        "metrics": rows,
    }


def ratio(error: float, scale: float) -> float:
    return error / scale if error else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=65_536)
    parser.add_argument("--output", type=Path, help="Where to save the table as JSON.")
    options = parser.parse_args()
    tables = [compared(name, options.paths) for name in POLICIES]
    for table in tables:
        print(
            f"{table['policy']}: {table['insolvent_paths']:,} of {options.paths:,} paths insolvent, "
            f"{table['paths_judged_otherwise']} of them or others judged otherwise in float32"
        )
        print(f"{'':<26}{'float64':>12}{'standard error':>16}{'float32, relative':>19}{'in standard errors':>20}")
        for row in table["metrics"]:
            metric, value, error, relative, scaled = row.values()
            print(f"{metric:<26}{value:>12.5g}{error:>16.2g}{relative:>19.1e}{scaled:>20.1e}")
    if options.output:
        told = {"job": "eth-perp", "paths": options.paths, "tail_level": TAIL_LEVEL, "policies": tables}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
