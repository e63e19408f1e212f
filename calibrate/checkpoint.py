"""What has been simulated is kept, so that a run that was killed goes on where it stopped.

The line from a job to its results is deterministic, and all its time goes into chunks of paths. So nothing else has to be kept:
a run that is started again asks for the same chunks in the same order, and finds those that were finished. A chunk's file is
named after all that determines its content, and appears whole or not at all; one that cannot be read counts as missing.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from calibrate.pieces import Piece, from_bytes, to_bytes
from calibrate.run_folder import write_bytes

_DIGEST_BYTES = 16


class Store:
    """A folder of finished chunks. `identity` is what all of them have in common, and part of their names."""

    def __init__(self, folder: Path, identity: bytes):
        self._folder, self._identity = folder, identity

    def _file(self, name: bytes) -> Path:
        return self._folder / hashlib.blake2b(self._identity + name, digest_size=_DIGEST_BYTES).hexdigest()

    def recall(self, name: bytes) -> Piece | None:
        try:
            content = self._file(name).read_bytes()
        except OSError:
            return None
        digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return from_bytes(rest) if digest == _digest(rest) else None

    def keep(self, name: bytes, piece: Piece) -> None:
        """Keep a chunk if that can be done: a run must not fail for want of room to keep what it need not keep."""
        content = to_bytes(piece)
        try:
            write_bytes(self._file(name), _digest(content) + content)
        except OSError:
            return

    def __len__(self) -> int:
        return sum(1 for path in self._folder.glob("*")) if self._folder.is_dir() else 0


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


_CURRENT: ContextVar[Store | None] = ContextVar("store", default=None)


def current_store() -> Store | None:
    return _CURRENT.get()


@contextmanager
def kept_in(store: Store) -> Iterator[None]:
    """In here, finished chunks are kept in the store and taken from it."""
    token = _CURRENT.set(store)
    try:
        yield
    finally:
        _CURRENT.reset(token)
