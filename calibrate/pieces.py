"""What comes of one chunk of paths, put together with others, and as bytes that travel or are kept.

Bytes are an Arrow stream with one row an array: it is checked when it is read, and data is all that it can hold.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Array

from calibrate.errors import UserError


class Piece(NamedTuple):
    """Outcomes of some paths by field, their derivatives with the parameters on a last axis, and how they were drawn."""

    values: dict[str, np.ndarray]
    slopes: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]

    @property
    def paths(self) -> int:
        return len(next(iter(self.values.values())))


def joined(pieces: Iterable[Piece]) -> Piece:
    """Pieces, one after the other, as one. Sums of normals have their paths on the last axis, the rest on the first."""
    values, slopes, drawn = zip(*pieces, strict=True)
    return Piece(_joined(values), _joined(slopes), _joined(drawn, axis=-1))


def _joined(parts: tuple[dict[str, Any], ...], axis: int = 0) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}


def first_paths(piece: Any, paths: int) -> Piece:
    """The first `paths` of what a chunk came to."""
    return Piece(*({name: _first(name, outcome, paths) for name, outcome in part.items()} for part in piece))


def _first(name: str, outcome: Array, paths: int) -> np.ndarray:
    by_block = name in ("returns", "volatilities")
    return np.asarray(outcome)[:, :paths] if by_block else np.asarray(outcome)[:paths]


# A tilted path of less weight than this shows in no figure, whatever became of it.
_NO_WEIGHT = 1e-12


def finite(piece: Piece) -> Piece:
    """The same where every outcome is a number. What a tilt drove beyond all bounds, to a weight of nothing, is left out."""
    weight = piece.drawn.get("weight")
    outcomes = piece.values | piece.slopes | ({} if weight is None else {"weight": weight})
    lost = np.zeros(piece.paths, bool)
    for outcome in outcomes.values():
        lost |= ~np.isfinite(outcome).reshape(len(lost), -1).all(axis=1)
    if not lost.any():
        return piece
    if weight is None or not (weight[lost] < _NO_WEIGHT).all():
        name = next(name for name, outcome in outcomes.items() if not np.isfinite(outcome).all())
        # A count of insolvencies would pass over what is not a number.
        raise UserError(
            f"the simulation: {name} is no finite number on some path, as prices or flows grew beyond what single precision "
            "holds. Look for a volatility, jump size or depth in the job that is off by orders of magnitude."
        )
    values, slopes = (
        {name: np.where(lost.reshape(-1, *[1] * (v.ndim - 1)), 0, v) for name, v in part.items()}
        for part in (piece.values, piece.slopes)
    )
    return Piece(values, slopes, piece.drawn | {"weight": np.where(lost, 0, weight)})


# --- as bytes -------------------------------------------------------------------------------------------------------------

_SCHEMA = pa.schema(
    {
        "part": pa.string(),
        "name": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int64()),
        "data": pa.large_binary(),
    }
)


def to_bytes(piece: Piece) -> bytes:
    rows = [
        {"part": part, "name": name, "dtype": array.dtype.str, "shape": array.shape, "data": array.tobytes()}
        for part, arrays in piece._asdict().items()
        for name, array in arrays.items()
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(rows, _SCHEMA))
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> Piece:
    """The piece that the bytes hold; a ValueError if they hold none."""
    piece = Piece({}, {}, {})
    for row in pa.ipc.open_stream(content).read_all().to_pylist():
        array = np.frombuffer(row["data"], np.dtype(row["dtype"])).reshape(row["shape"])
        getattr(piece, row["part"])[row["name"]] = array
    return piece


def fingerprint(tree: Any, feed: Callable[[bytes], None]) -> None:
    """Feed a hash with all that a tree of arrays and settings holds."""
    leaves, structure = jax.tree.flatten(tree)
    feed(str(structure).encode())
    for leaf in leaves:
        array = np.asarray(leaf)
        feed(f"{array.dtype.str}{array.shape}".encode())
        feed(array.tobytes())
