"""Long runs that go on where they were stopped.

While a run goes on, its finished chunks lie in a hidden folder beside the folder that it will write (checkpoint.py), with a note
of what the run is made of: job, inputs, versions, processor. The same command goes on from there; another one is told. The folder
goes when the run is done.
"""

import datetime
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import calibrate
from calibrate.checkpoint import Store, kept_in
from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.pipeline import other_inputs
from calibrate.processes import LostProcess, current_crew
from calibrate.run_folder import (
    missing_parents,
    read_json,
    refuse_existing,
    remove_empty,
    sha256,
    unfinished,
    write_json,
)
from calibrate.runtime import processor
from calibrate.together import place_of

_NOTE, _CHUNKS = "made-of.json", "chunks"


@contextmanager
def run_folder_for(loaded: LoadedJob, command: str, output: Path | None, *, resume: bool) -> Iterator[Path]:
    """The folder that a command is to write, in a run that can go on where it stopped. Of several processes, those that are not
    the first write elsewhere, for nobody."""
    with (
        place_of(_target(loaded, command, output, resume=resume)) as (target, place),
        resumable(target, command, loaded, resume=resume),
    ):
        yield place


def _target(loaded: LoadedJob, command: str, output: Path | None, *, resume: bool) -> Path:
    parent, stem = Path(f"{command}s"), loaded.path.stem
    if output is not None:
        return output
    if resume and current_crew().leads:
        return _latest_unfinished(parent, stem, identity(command, loaded))
    return parent / f"{stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def resumable(target: Path, command: str, loaded: LoadedJob, *, resume: bool) -> Iterator[Store]:
    """In here, what is simulated for the run folder `target` is kept, and with `resume` found again."""
    area, made_of = unfinished(target), identity(command, loaded)
    store = Store(area / _CHUNKS, json.dumps(made_of, sort_keys=True).encode())
    above = missing_parents(target)
    if current_crew().leads:
        refuse_existing(target)
        _check(area, made_of, resume=resume)
        _note(area, made_of)
    useless = True
    try:
        with kept_in(store):
            yield store
    except (LostProcess, KeyboardInterrupt) as stop:
        useless = not len(store)
        if isinstance(stop, KeyboardInterrupt) and not useless:
            raise KeyboardInterrupt("interrupted; the same command with --resume goes on from here") from None
        raise
    except UserError:
        raise  # what the user mends makes another run
    except BaseException:
        useless = not len(store)
        raise
    finally:
        # Others may share the disk with the first process, whose run folder is being made in there.
        if useless and (current_crew().leads or not (area / _NOTE).is_file()):
            shutil.rmtree(area, ignore_errors=True)
            if not target.exists():
                remove_empty(above)


def _note(area: Path, made_of: dict[str, Any]) -> None:
    try:
        write_json(area / _NOTE, made_of)
    except OSError as error:
        raise UserError(
            [Problem(str(area), f"cannot be created ({error.strerror}); choose another --output")]
        ) from None


def _latest_unfinished(folder: Path, stem: str, made_of: dict[str, Any]) -> Path:
    """The run folder that the newest unfinished run of this job in `folder` is to become."""
    areas = sorted(folder.glob(unfinished(folder / f"{stem}-*").name), reverse=True)
    for area in areas:
        if (area / _NOTE).is_file() and read_json(area / _NOTE) == made_of:
            return area.with_name(area.name.removeprefix(".").removesuffix(".unfinished"))
    found = f"none of the {len(areas)} unfinished runs there is of this job as it stands" if areas else "there is none"
    raise UserError(
        [Problem(str(folder), f"no unfinished run to go on with: {found}; leave out --resume to start one")]
    )


def _check(area: Path, made_of: dict[str, Any], *, resume: bool) -> None:
    if not (area / _NOTE).is_file():
        return
    if not resume:
        message = "an unfinished run of this name is there; add --resume to go on with it, or remove it to start afresh"
        raise UserError([Problem(str(area), message)])
    begun = read_json(area / _NOTE)
    other = [name for name in made_of if begun.get(name) != made_of[name]]
    if other:
        message = (
            f"the unfinished run was begun with another {', '.join(other)}; choose another --output, or remove it to start "
            "afresh"
        )
        raise UserError([Problem(str(area), message)])


def identity(command: str, loaded: LoadedJob) -> dict[str, Any]:
    """All that a run's results depend on, to the bit."""
    packages = ("jax", "jaxlib", "numpy", "scipy")
    return {
        "command": command,
        "job": loaded.text,
        "overrides": list(loaded.overrides),
        "inputs": {str(path): sha256(path) for path in other_inputs(loaded)},
        "version of calibrate": _code(),
        "versions": {package: version(package) for package in packages},
        "processor": hashlib.sha256(processor().encode()).hexdigest(),
        "device": jax.local_devices()[0].device_kind,
    }


def _code() -> str:
    """Which program this is, also between two releases."""
    package = Path(calibrate.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
