"""Where the files that travel with the package are: fitted models, job files, sample data.

In an installed wheel they lie inside the package; in a checkout they are the folders at its top.
"""

import shutil
from pathlib import Path

from calibrate.errors import Problem, UserError, raise_all

_PACKAGE = Path(__file__).parent


def shipped_folder(kind: str) -> Path:
    """The folder of shipped `models`, `configs` or `data`."""
    inside = _PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def shipped_names(kind: str) -> list[str]:
    """Names, without the ending, of what is shipped."""
    return sorted(path.stem for path in shipped_folder(kind).glob("*.toml"))


def lay_out_shipped(folder: Path) -> list[Path]:
    """Copy the shipped jobs, models and made-up data into `folder`; what is in the way is an error, and nothing is copied."""
    sources = [
        path
        for kind in ("configs", "models", "data")
        for path in sorted(shipped_folder(kind).iterdir())
        if path.is_file()
    ]
    targets = [folder / path.parent.name / path.name for path in sources]
    raise_all([Problem(str(target), "exists already; choose an empty folder") for target in targets if target.exists()])
    try:
        for source, target in zip(sources, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise UserError([Problem(str(folder), f"cannot be written to ({error.strerror}); choose a folder")]) from None
    return targets
