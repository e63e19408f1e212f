"""Chunks of paths, spread over the cores, the local devices and the processes that work together.

Chunks come out in their order, whoever made them, and only a few more than are asked for are ever ahead: whoever sums them up as
they come needs no more memory for more paths. Chunks that were finished before this process was started are not made again.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import jax

from calibrate.checkpoint import current_store
from calibrate.pieces import Piece, from_bytes, to_bytes
from calibrate.processes import current_crew, exchange

Make = Callable[[int], Piece]
# Chunks in hand for each thread, so that none waits for its turn; and chunks of each thread from one exchange to the next.
_AHEAD, _ROUND = 3, 8


def in_order(make: Make, count: int, question: Callable[[], bytes], name: Callable[[int], bytes]) -> Iterator[Piece]:
    """What `make` makes of chunks 0, 1, ... `count` - 1. `question` tells what is asked of all of them, `name` which one a
    number stands for; neither is called where nobody has to know."""
    crew, store = current_crew(), current_store()
    asked = question() if store is not None or crew.size > 1 else b""

    def once(k: int) -> Piece:
        if store is None:
            return make(k)
        known = asked + name(k)
        found = store.recall(known)
        if found is None:
            found = make(k)
            store.keep(known, found)
        return found

    if crew.size == 1:
        yield from _on_threads(once, range(count), crew.threads)
        return
    mine = _on_threads(once, range(crew.number, count, crew.size), crew.threads)
    per_round = _ROUND * -(-crew.cores // crew.size)
    for first in range(0, count, per_round * crew.size):
        last = min(first + per_round * crew.size, count)
        own = [next(mine) for _ in range(first + crew.number, last, crew.size)]
        parts = [_unpacked(answer) for answer in exchange(asked, _packed(own))]
        for k in range(first, last):
            yield parts[(k - first) % crew.size][(k - first) // crew.size]


def _on_threads(make: Make, numbers: range, threads: int) -> Iterator[Piece]:
    devices = jax.local_devices()
    several = len(devices) > 1

    def on_device(k: int) -> Piece:
        with jax.default_device(devices[k // numbers.step % len(devices)]) if several else nullcontext():
            return make(k)

    waiting: deque[Future[Piece]] = deque()
    with ThreadPoolExecutor(max(threads, len(devices))) as pool:
        try:
            for k in numbers:
                waiting.append(pool.submit(on_device, k))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _packed(pieces: list[Piece]) -> bytes:
    """Several pieces as bytes, each after its length."""
    contents = [to_bytes(piece) for piece in pieces]
    return b"".join(len(content).to_bytes(8, "little") + content for content in contents)


def _unpacked(content: bytes) -> list[Piece]:
    pieces, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 8], "little")
        pieces.append(from_bytes(content[at + 8 : at + 8 + size]))
        at += 8 + size
    return pieces
