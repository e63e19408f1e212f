"""Candles written to a file, whole or not at all: Parquet or CSV by the name's ending, with the columns ts (open of the bar
in Unix milliseconds), open, high, low, close, volume. The same candles give the same bytes."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from calibrate.data.candle_columns import NAMES
from calibrate.errors import Problem, UserError

ENDINGS = (".parquet", ".csv")


def check_target(path: Path) -> None:
    """Refuse a target that cannot be written, before any work is done."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError([Problem(str(path), f"found the ending {path.suffix!r}; expected {' or '.join(ENDINGS)}")])
    if not path.parent.is_dir():
        raise UserError([Problem(str(path), f"there is no folder {str(path.parent)!r}; create it or choose another")])


def write_candles(path: Path, columns: Mapping[str, np.ndarray], *, note: Mapping[str, str] | None = None) -> None:
    """Write candles; `note` says where they come from, in a Parquet file's metadata or above the table of a CSV file. A
    reader sees the old file or the whole new one."""
    check_target(path)
    arrays = [columns["ts"].astype(np.int64), *(columns[name] for name in NAMES[1:])]
    table = pa.table(dict(zip(NAMES, arrays, strict=True))).replace_schema_metadata(dict(note) if note else None)
    draft = None
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        if path.suffix.lower() == ".parquet":
            pyarrow.parquet.write_table(table, draft)
        else:
            with open(draft, "wb") as file:
                comments = "".join(f"# {key}: {value}\n" for key, value in (note or {}).items())
                file.write(f"{comments}{','.join(NAMES)}\n".encode())
                pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(include_header=False))
        os.chmod(draft, 0o644)  # mkstemp makes it private
        os.replace(draft, path)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot write the file ({found}); check the folder")]) from error
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
