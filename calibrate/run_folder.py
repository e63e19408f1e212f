"""The run folder: written whole or not at all, and read back by the commands that work from it.

Everything is written into a hidden folder beside the target and moved into place at the end, so that an interrupted run leaves
nothing behind that looks like a result. Where the run keeps what it has simulated, so that it can go on, that folder is in there.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.errors import Problem, UserError


def unfinished(target: Path) -> Path:
    """Where a run keeps what it has simulated until `target` is written."""
    return target.with_name(f".{target.name}.unfinished")


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError([Problem(str(target), "exists already; choose another --output")])


def missing_parents(target: Path) -> list[Path]:
    """Folders above the target that are not there yet, innermost first."""
    return [parent for parent in target.parents if not parent.exists()]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `target` if and only if the block ends well."""
    refuse_existing(target)
    above = missing_parents(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = unfinished(target) if unfinished(target).is_dir() else target.parent
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=beside))
    except OSError as error:
        raise UserError(
            [Problem(str(target), f"cannot be created ({error.strerror}); choose another --output")]
        ) from None
    try:
        yield draft
        draft.chmod(0o755)
        _move_into_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.exists():
            remove_empty(above)


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, as far as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _move_into_place(draft: Path, target: Path) -> None:
    try:
        os.replace(draft, target)
    except OSError as error:
        raise UserError(
            [Problem(str(target), f"cannot be put in place ({error.strerror}); was it created while this ran?")]
        ) from None


def write_text(path: Path, text: str) -> Path:
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write beside the target and move into place, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)  # mkstemp makes it private
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
    return path


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_table(stem: Path, table: pd.DataFrame) -> None:
    """A table as CSV and as Parquet."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_text(stem.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
    draft = stem.with_suffix(".parquet.partial")
    table.to_parquet(draft, index=False)
    os.replace(draft, stem.with_suffix(".parquet"))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            [Problem(str(path), f"cannot be read ({error.strerror}); give the path of a JSON file")]
        ) from None
    except ValueError as error:
        raise UserError([Problem(str(path), f"is not valid JSON ({error})")]) from None
    if not isinstance(content, dict):
        raise UserError([Problem(str(path), "does not hold a JSON object")])
    return content


def toml_text(tables: dict[str, Any]) -> str:
    """Tables of scalars and lists, one level of nesting, as TOML. Strings are written as JSON strings, which TOML reads alike."""
    lines = [_toml_line(key, value) for key, value in tables.items() if not isinstance(value, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{_toml_key(name)}]", *(_toml_line(key, value) for key, value in table.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_line(key: str, value: object) -> str:
    return f"{_toml_key(key)} = {_toml_value(value)}"


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _toml_value(key)


def _toml_value(value: object) -> str:
    # JSON leaves DEL as it is, TOML does not allow it; nor halves of characters, which undecodable arguments bring.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return text.encode("utf-8", "replace").decode("utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
