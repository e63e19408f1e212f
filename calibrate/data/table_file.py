"""Opens a table from a stranger, whatever its dress, and hands out its rows in pieces.

CSV in any dialect (`dialect.py`), plain or packed by gzip, bzip2, xz or zip, and Parquet. What a file is, is told by its
first bytes, not by its name. However long a file is, no more than a piece of it is in memory.
"""

import bz2
import codecs
import gzip
import hashlib
import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow
import pyarrow.parquet

from calibrate.data.dialect import Dialect, NotATable, sniff
from calibrate.errors import Problem, UserError

MOST_ROWS_PER_PIECE = 200_000
BYTES_PER_PIECE = 32 << 20
_HEAD_BYTES = 1 << 16
_PACKINGS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_BROKEN = (
    ValueError,  # with the parsers' own errors, which derive from it
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pyarrow.ArrowException,
    pd.errors.ParserWarning,
    NotImplementedError,  # a zip that is packed in a way that nobody here can undo
    RuntimeError,  # a zip that asks for a password
)


@dataclass(frozen=True)
class TableFile:
    """A table that can be read. `columns` are its own names, none if no line names them; `dialect` is that of a text."""

    path: Path
    packing: str | None
    dialect: Dialect | None
    columns: tuple[str, ...]
    width: int
    sha256: str
    size_bytes: int
    expected: str
    bytes_per_row: float = 0.0

    def __str__(self) -> str:
        kind = "Parquet" if self.dialect is None else f"CSV, {self.dialect}"
        return f"{kind}, packed by {self.packing}" if self.packing else kind

    @property
    def named(self) -> tuple[str, ...]:
        """The names as they stand, where two columns may go by the same one."""
        return self.columns if self.dialect is None else self.dialect.first_row

    @property
    def rows_per_piece(self) -> int:
        return int(min(max(BYTES_PER_PIECE / max(self.bytes_per_row, 1.0), 1000), MOST_ROWS_PER_PIECE))

    def pieces(self, names: list[str], *, as_text: bool = False) -> Iterator[pd.DataFrame]:
        """The rows in the order of the file, in tables of the columns `names`, which are to be among `columns`; where no
        line names the columns, `names` names all of them. With `as_text`, values stand as they are written, where there is none
        is an empty text, and an empty line is a row of them."""
        with _refusing(self.path, self.expected):
            yield from (
                self._parquet(names, as_text) if self.dialect is None else self._text(self.dialect, names, as_text)
            )

    def _parquet(self, names: list[str], as_text: bool) -> Iterator[pd.DataFrame]:
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=self.rows_per_piece, columns=names):
                # An index is a column like others; whole numbers of which some are missing keep their digits.
                piece = batch.to_pandas(ignore_metadata=True, integer_object_nulls=as_text)[names]
                yield piece.apply(_as_text) if as_text else piece

    def _text(self, dialect: Dialect, names: list[str], as_text: bool) -> Iterator[pd.DataFrame]:
        with _unpacked(self.path, self.packing) as stream, warnings.catch_warnings():
            # Rows longer than the line of names would otherwise be cut with no more than a warning, as would all rows
            # if only some columns were asked for.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            reader = pd.read_csv(
                stream,
                sep=dialect.delimiter,
                quotechar=dialect.quote,
                encoding=dialect.encoding,
                decimal=dialect.decimal,
                thousands=dialect.thousands,
                skiprows=dialect.preamble,
                header=0 if dialect.has_names else None,
                names=list(self.columns) if dialect.has_names else names,
                index_col=False,
                skipinitialspace=True,
                skip_blank_lines=not as_text,  # whoever asks for texts counts rows, and leaves empty ones out
                low_memory=False,
                dtype=str if as_text else None,
                keep_default_na=not as_text,
                chunksize=self.rows_per_piece,
            )
            for piece in reader:
                yield piece[names].fillna("") if as_text else piece[names]


def open_table(path: str | os.PathLike[str], *, expected: str) -> TableFile:
    """Look at a file without reading its rows; `expected` says what it should be, for example "a CSV or Parquet file of
    candles"."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError(
            [Problem(str(path), f"cannot read the file ({found}); expected {expected}; check the path")]
        ) from error
    if not size:
        raise UserError([Problem(str(path), f"found an empty file; expected {expected}")])
    with _refusing(path, expected):
        if head.startswith(b"PAR1"):
            with pyarrow.parquet.ParquetFile(path) as parquet:
                columns = tuple(parquet.schema_arrow.names)
            return TableFile(path, None, None, columns, len(columns), sha256, size, expected)
        packing = next((name for mark, name in _PACKINGS.items() if head.startswith(mark)), None)
        with _unpacked(path, packing) as stream:
            text = stream.read(_HEAD_BYTES)
        _refuse_other_kinds(text)
        dialect = sniff(text, whole=len(text) < _HEAD_BYTES)
        columns = _distinct(dialect.first_row) if dialect.has_names else ()
        row = len(text) / max(text.count(b"\n"), 1)
        return TableFile(path, packing, dialect, columns, len(dialect.first_row), sha256, size, expected, row)


def _as_text(column: pd.Series) -> pd.Series:
    shown = pd.Timestamp.isoformat if pd.api.types.is_datetime64_any_dtype(column) else str
    return column.map(lambda value: "" if pd.isna(value) else shown(value)).astype(str)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names as they stand; the second of the same name and the nameless get a number, so that no column takes another's
    place."""
    return tuple(
        name if name and name not in names[:place] else f"{name or 'column'}.{place + 1}"
        for place, name in enumerate(names)
    )


def _refuse_other_kinds(text: bytes) -> None:
    start = text.removeprefix(codecs.BOM_UTF8).lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise NotATable("found a web page, perhaps an error message that was saved in place of the file")
    if start.startswith((b"{", b"[")):
        raise NotATable("found JSON")


@contextmanager
def _unpacked(path: Path, packing: str | None) -> Iterator[IO[bytes]]:
    openers: dict[str | None, Callable[..., IO[bytes]]] = {
        None: open,
        "gzip": gzip.open,  # type: ignore[dict-item]
        "bzip2": bz2.open,
        "xz": lzma.open,
    }
    if packing != "zip":
        with openers[packing](path, "rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/") and "__MACOSX" not in member]
        if "[Content_Types].xml" in members:
            raise NotATable("found an Excel workbook; save the sheet as CSV")
        if len(members) != 1:
            raise NotATable(f"found an archive of {len(members)} files; expected one; unpack it and name the file")
        with archive.open(members[0]) as stream:
            yield stream


@contextmanager
def _refusing(path: Path, expected: str) -> Iterator[None]:
    """What is wrong with the file as a whole becomes one message."""
    try:
        yield
    except _BROKEN as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise UserError([Problem(str(path), f"not a table ({found}); expected {expected}; check the file")]) from error
