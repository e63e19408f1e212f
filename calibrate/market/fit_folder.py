"""What a comparison of families writes: scores, a model file for each family, and a figure of each."""

from collections.abc import Callable
from pathlib import Path

from calibrate.data.candles import Candles
from calibrate.drawing import save
from calibrate.market.comparison import Comparison
from calibrate.market.files import write_model
from calibrate.market.fit import FITS, Fit, with_evidence
from calibrate.market.fit_figures import fit_figure
from calibrate.market.fits.estimate import Estimate
from calibrate.run_folder import new_folder, write_text

SCORES = "scores.csv"


def write_comparison(folder: Path, found: Comparison, *, command: str, on_progress: Callable[[str], None]) -> None:
    """Write a folder that appears whole or not at all."""
    with new_folder(folder) as draft:
        write_text(draft / SCORES, found.table().to_csv(index=False, lineterminator="\n", float_format="%.6g"))
        for number, (name, estimate) in enumerate(found.estimates.items(), 1):
            on_progress(f"writing {name} ({number} of {len(found.estimates)})")
            fit = with_evidence(name, estimate, found.task)
            path = draft / f"{name}.toml"
            write_model(path, fit, command=f"{command} --family {name} -o {name}.toml")
            write_figure(path, name, estimate, found.train, seed=found.task.seed)


def write_figure(path: Path, family: str, estimate: Estimate | Fit, candles: Candles, *, seed: int) -> list[Path]:
    """The figure of a fit, as SVG and PNG beside its model file."""
    plain = Estimate(dict(estimate.parameters), dict(estimate.standard_errors), residuals=estimate.residuals)
    chart = fit_figure(FITS[family].file_of(plain), candles, name=family, seed=seed)
    return save(chart, path.with_suffix(""), formats=("svg", "png"))
