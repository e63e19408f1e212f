"""Fits a market model to candles: which volatility, which jumps, and how sure we are of each.

`fit_candles` fits any family of `FITS`, each in its own way (`fits/`), and then holds the fitted model against the data alike for
all: quantiles of returns and autocorrelations, the data's with their errors, the model's on a much longer history of fresh random
numbers.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, Candles, window_returns
from calibrate.errors import Problem, UserError, raise_all
from calibrate.market.fits.constant import CONSTANT
from calibrate.market.fits.estimate import Estimate, FamilyFit, Task
from calibrate.market.fits.filtered_historical import FILTERED_HISTORICAL
from calibrate.market.fits.garch import GARCH, GJR_GARCH
from calibrate.market.fits.hawkes import HAWKES
from calibrate.market.fits.heston import HESTON
from calibrate.market.fits.jumps import KOU, MERTON
from calibrate.market.fits.log_ou_kou import LOG_OU_KOU
from calibrate.market.fits.log_ou_two_factor import TWO_FACTOR
from calibrate.market.fits.regimes import REGIMES
from calibrate.market.moments import Moments, Windows, long_run_moments
from calibrate.market.schema import FAMILIES
from calibrate.market.simulated import simulated_moments
from calibrate.market.targets import AutocorrelationRow, GoodnessRow, Targets, autocorrelation_rows, goodness_rows

SHORTEST_FIT_DAYS = 30.0
GOODNESS_YEARS = 1000.0
# By the name that a user asks for.
FITS: dict[str, FamilyFit] = {
    "log-ou-kou": LOG_OU_KOU,
    "log-ou-two-factor": TWO_FACTOR,
    "heston": HESTON,
    "constant": CONSTANT,
    "merton": MERTON,
    "kou": KOU,
    "hawkes": HAWKES,
    "regimes": REGIMES,
    "garch": GARCH,
    "gjr-garch": GJR_GARCH,
    "filtered-historical": FILTERED_HISTORICAL,
}


@dataclass(frozen=True)
class Fit:
    """A fitted model with its evidence. Parameters are annual unless their name says otherwise; `standard_errors` are
    in the same units, for what was estimated. `first` and `last` are the opens of the first and last bar (ISO, UTC).
    `notes` say what a reader must know, for example that a parameter ended at the edge of its range. `parts` are the keys of
    [model] beside the family, `residuals` the history that a model draws from, `windows` the periods that the bars are
    from, if not the whole file."""

    family: str
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    goodness: list[GoodnessRow]
    autocorrelation: list[AutocorrelationRow]
    source: str
    sha256: str
    first: str
    last: str
    bars: int
    gaps: int
    interval_s: float
    seed: int
    version: str
    notes: tuple[str, ...] = ()
    parts: dict[str, str] = field(default_factory=dict)
    residuals: np.ndarray | None = None
    windows: tuple[str, ...] = ()


def fit_candles(
    candles: Candles,
    *,
    family: str = "log-ou-kou",
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
    simulated_years: float | None = None,
) -> Fit:
    """Fit a market model of a family to candles; the same candles and seed give the same fit.

    `simulated_years` is the length of the simulated history that some families are fitted on, by default sixteen times that of the
    candles, between 20 and 80 years. Five years of hourly bars take about a minute on one core.
    """
    check_candles(candles, (family,))
    task = Task(candles, seed, on_progress or (lambda text: None), simulated_years)
    estimate = FITS[family].fit(task)
    return with_evidence(family, estimate, task)


def with_evidence(family: str, estimate: Estimate, task: Task) -> Fit:
    """An estimate with what the model makes of the data's moments."""
    candles, windows = task.candles, task.windows
    targets = task.targets
    task.tell(f"measuring the model on {GOODNESS_YEARS:.0f} fresh years")
    model = _moments(family, estimate, windows, task.seed)
    parts = {key: value for key, value in FITS[family].model.items() if key != "family"}
    return Fit(
        FITS[family].model["family"],
        estimate.parameters,
        estimate.standard_errors,
        goodness_rows(targets, model, windows),
        autocorrelation_rows(targets, model, windows),
        candles.source,
        candles.sha256,
        candles.first,
        candles.last,
        candles.bars,
        candles.gaps,
        candles.interval_s,
        task.seed,
        package_version(),
        estimate.notes,
        parts,
        estimate.residuals,
    )


def _moments(family: str, estimate: Estimate, windows: Windows, seed: int) -> Moments:
    """By NumPy where it knows the market, as it does so in a tenth of the time."""
    if family in FAMILIES:
        rng = np.random.default_rng([seed, 4])
        return long_run_moments(estimate.parameters, windows, rng, years=GOODNESS_YEARS)
    model = FITS[family].file_of(estimate)
    return simulated_moments(model, windows, seed=seed, years=GOODNESS_YEARS)


def measure_goodness(candles: Candles, parameters: Mapping[str, float], *, seed: int = 0) -> list[GoodnessRow]:
    """How a log-OU or constant model's quantiles compare with those of candles, on fresh random numbers."""
    windows = Windows.of(candles)
    targets = Targets.measure(candles, windows, np.random.default_rng([seed, 1]))
    model = long_run_moments(parameters, windows, np.random.default_rng([seed, 4]), years=GOODNESS_YEARS)
    return goodness_rows(targets, model, windows)


def check_candles(candles: Candles, families: Iterable[str]) -> None:
    """Refuse candles that cannot carry a fit."""
    windows = Windows.of(candles)
    problems = []
    for family in families:
        if family not in FITS:
            problems.append(Problem("family", f"found {family!r}; expected {' or '.join(map(repr, FITS))}"))
    if candles.bars < MINIMUM_BARS_FOR_FIT:
        found = f"found {candles.bars} bars; expected at least {MINIMUM_BARS_FOR_FIT} for a fit"
        problems.append(Problem(candles.source, f"{found}; use a longer or finer file"))
    days = candles.interval_s / 86_400
    if days > 1:
        found = f"found bars of {days:g} days; expected a day or less for a fit"
        problems.append(Problem(candles.source, f"{found}; use finer bars"))
    if candles.bars * days < SHORTEST_FIT_DAYS:
        found = f"found {candles.bars * days:.3g} days of bars; expected at least {SHORTEST_FIT_DAYS:g} for a fit"
        problems.append(Problem(candles.source, f"{found}; use a longer file"))
    raise_all(problems)
    whole = np.count_nonzero(np.isfinite(window_returns(candles, windows.day * windows.base_bars)))
    if whole * days < SHORTEST_FIT_DAYS / 2:
        found = f"found {whole} windows of a day without a missing bar"
        expected = f"expected at least {SHORTEST_FIT_DAYS / 2 / days:.0f}"
        raise UserError([Problem(candles.source, f"{found}; {expected}; use a file with fewer gaps")])


def package_version() -> str:
    try:
        return version("calibrate")
    except PackageNotFoundError:  # run from a source tree that is not installed
        project = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"] if project.exists() else "unknown"
