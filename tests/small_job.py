"""A small job for tests of files and commands: a dozen steps, constant volatility, four segments a cohort.

All its samples are small, so that on two cores or more every command works in chunks of one size and all share a handful of
compiled programs.
Its limit leaves room at the lowest margin allowed, so that the first certificate is granted whatever the noise.
"""

from pathlib import Path

from calibrate.errors import Problem, UserError
from calibrate.job import load_job

TEXT = """\
name = "SMALL"

[market]
volatility = 1.0

[oracle]
kind = "exact"

[liquidity]
depth_usd = 25e6

[book]
open_interest_usd = 150e6
resolution = 4

[[book.cohorts]]
side = "long"
share = 1.0
mixture = [{ weight = 1.0, median_excess = 0.6, spread = 0.7 }]

[venue]
insurance_fund_usd = 300e3
keepers = "unlimited"

[policy]
base_margin_bps = { value = 200, free = true, low = 150, high = 1000 }
volatility_multiplier = 1.0
penalty_bps = 100

[constraints]
insolvency_probability = 0.1

[simulation]
step_s = 7200
paths = 8_000
optimiser_paths = 800
seed = 7

[frontier]
loosest = 0.04
strictest = 0.02
points = 2
paths = 4096
"""


def write(folder: Path, text: str = TEXT) -> Path:
    """The job, or another text, as a file in `folder`."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def assert_told(folder: Path, overrides: list[str], place: str, said: list[str]) -> None:
    """The small job, spoilt by `overrides`, is refused with all that is to be `said` at `place`."""
    problems = problems_of(write(folder), *overrides)
    found = [problem.message for problem in problems if problem.place.endswith(f": {place}")]
    assert found, f"nothing is said of {place}, but {problems}"
    assert all(part in found[0] for part in said), f"found {found[0]!r}, which lacks some of {said}"


def problems_of(path: Path, *overrides: str) -> list[Problem]:
    """What is said about a job file; nothing if it is right."""
    try:
        load_job(path, overrides)
    except UserError as error:
        return error.problems
    return []
