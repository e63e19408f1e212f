"""What the ways through bars assume, measured: days of one-minute candles replayed as they are, and from bars of five minutes and
an hour made of them, under the incumbent policy of a job. Prints a table for docs/replay.md.

    python benchmarks/intrabar.py configs/eth-perp.toml FILE[:SYMBOL] 2021-05-19 2021-05-23 ...
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.assemble import assemble
from calibrate.data.candles import Candles
from calibrate.data.history import read_market
from calibrate.job import load_job
from calibrate.metrics import mean, user_cost
from calibrate.replay import replay_overrides
from calibrate.simulate import simulate

MINUTES = (1, 5, 60)
STEP_S, PATHS = 15, 1024


def aggregated(candles: Candles, minutes: int) -> pd.DataFrame:
    """Longer bars of one-minute bars; those that are not whole are left out."""
    columns = ("ts", "open", "high", "low", "close", "volume")
    table = pd.DataFrame({name: getattr(candles, name) for name in columns})
    bar = table["ts"] // (60_000 * minutes)
    whole = table.groupby(bar).agg(
        {"ts": "first", "open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    return whole[table.groupby(bar)["ts"].count() == minutes]


def main(job: Path, market: str, days: list[str]) -> None:
    file, _, symbol = market.partition(":")
    candles = read_market(Path(file), symbol or None)
    print("| day | bars | positions liquidated, % | bad debt, % | user cost, % | insolvent ways, % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in MINUTES:
            aggregated(candles, minutes).to_csv(Path(folder) / f"{minutes}.csv", index=False)
        for day in days:
            end = str(np.datetime64(day) + 1)
            for minutes in MINUTES:
                replay = replay_overrides(f"replay:{folder}/{minutes}.csv", day, end)
                loaded = load_job(job, [*replay, f"simulation.step_s={STEP_S}"])
                assembled = assemble(loaded)
                values = simulate(assembled.scenario, assembled.incumbent, seed=1, paths=PATHS).values
                shares = [values["liquidated_share"], values["bad_debt"], user_cost(values), values["distance"] > 0]
                shown = [
                    f"{100 * mean(v).value:.4g} ± {100 * mean(v).standard_error:.1g} ({100 * np.std(v):.2g})"
                    for v in shares[:3]
                ]
                print(f"| {day} | {minutes} min | {' | '.join(shown)} | {100 * np.mean(shares[3]):.3g} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
