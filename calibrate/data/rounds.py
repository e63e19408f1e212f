"""Round logs of a price feed: what an oracle such as Chainlink's wrote on chain, and when.

A log has one row a round with the time of its update and its answer, and usually its number. Numbers say whether rounds are
missing and in which order they came; without them rows have to be in order of time. Answers may be raw integers: only their
ratios matter, so their decimals do not, but they must be the same throughout.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrate.data.table import Checked, read_table, span

TIME = ("updated_at", "updatedat", "updated", "timestamp", "time", "ts", "datetime", "date", "block_timestamp")
ANSWER = ("price", "answer", "answer_raw", "current", "value")
NUMBER = ("round_id", "roundid", "round", "id")
# Above the low 64 bits of a proxy's round number stands the number of the aggregator behind it (Chainlink, "Historical price
# data"), which starts counting anew.
AGGREGATOR_BITS = 64
LARGEST_MOVE = 5.0  # a factor between two rounds: more than this is another scale, not a market
FEWEST_ROUNDS = 200


class Rounds(NamedTuple):
    """A round log in order: Unix seconds and answers, and whether each round follows the one before without a hole."""

    seconds: np.ndarray
    answer: np.ndarray
    follows: np.ndarray
    source: str
    sha256: str
    notes: tuple[str, ...]

    @property
    def window(self) -> tuple[str, str]:
        return span(self.seconds)


def read_rounds(path: Path, *, allow_gaps: bool = False) -> Rounds:
    """Read and check a round log; everything wrong with it is raised together. Missing rounds are an error unless
    `allow_gaps`, which leaves out what spans them."""
    table = read_table(path, "rounds of a price feed", (*TIME, *ANSWER, *NUMBER))
    table.require("the time of each update", TIME)
    table.require("the answer of each round", ANSWER)
    table.done()
    seconds = table.seconds(*TIME)
    answer = table.numbers(*ANSWER, low=0.0, expected="an answer above 0")
    numbers = table.integers(*NUMBER) if table.has(*NUMBER) else None
    if table.rows < FEWEST_ROUNDS:
        table.add("", f"found {table.rows} rounds; expected at least {FEWEST_ROUNDS}; use a longer log")
    table.done()
    notes: list[str] = []
    order = np.arange(table.rows) if numbers is None else _order(table, [int(n or 0) for n in numbers], notes)
    table.done()
    seconds, answer = seconds[order], answer[order]
    follows = np.ones(len(order), bool)
    if numbers is not None:
        follows[1:] = _no_hole(table, [int(numbers[i] or 0) for i in order], order, allow_gaps, notes)
    elif seconds[0] > seconds[-1] and (np.diff(seconds) <= 0).all():
        order, seconds, answer = order[::-1], seconds[::-1], answer[::-1]
        notes.append("rows came newest first and were turned round")
    _check_sequence(table, order, seconds, answer)
    table.done()
    follows[0] = False
    return Rounds(seconds, answer, follows, path.name, table.sha256, tuple(notes))


def _order(table: Checked, numbers: list[int], notes: list[str]) -> np.ndarray:
    """Rows in order of their round numbers, each of which should be there once."""
    order = np.array(sorted(range(len(numbers)), key=lambda i: numbers[i]))
    twice = np.zeros(len(numbers), bool)
    for before, after in pairwise(order):
        twice[after] = numbers[before] == numbers[after]
    table.wrong(twice, table.name_of(*NUMBER), numbers, "each round once")
    if (order != np.arange(len(order))).any():
        notes.append("rows were not in order of their rounds and were sorted")
    return order


def _no_hole(table: Checked, numbers: list[int], order: np.ndarray, allow_gaps: bool, notes: list[str]) -> np.ndarray:
    """Whether each round but the first is the next of the same aggregator."""
    same = np.array([a >> AGGREGATOR_BITS == b >> AGGREGATOR_BITS for a, b in pairwise(numbers)])
    steps = np.array([min(b - a, 2**62) for a, b in pairwise(numbers)])
    hole = same & (steps > 1)
    if hole.any() and not allow_gaps:
        row, missing = int(order[int(np.argmax(hole)) + 1]), int((steps[hole] - 1).sum())
        found = f"found {int(hole.sum()):,} holes with {missing:,} missing rounds in all, the first before round {numbers[row]}"
        todo = "fill in the log, or pass --allow-gaps to leave out what spans them"
        table.add(
            f"{table.name_of(*NUMBER)}, row {table.number_of(row)}", f"{found}; expected consecutive rounds; {todo}"
        )
    elif hole.any():
        notes.append(
            f"{int((steps[hole] - 1).sum()):,} rounds are missing in {int(hole.sum()):,} holes, which are left out"
        )
    return same & ~hole


def _check_sequence(table: Checked, order: np.ndarray, seconds: np.ndarray, answer: np.ndarray) -> None:
    """Times must not run backwards, and answers must keep their scale."""
    backwards, rescaled = np.zeros(len(order), bool), np.zeros(len(order), bool)
    backwards[order[1:]] = np.diff(seconds) < 0
    expected = "times that rise from round to round" if table.has(*NUMBER) else "rows in order of time (sort them)"
    table.wrong(backwards, table.name_of(*TIME), table.text(*TIME), expected)
    rescaled[order[1:]] = np.abs(np.diff(np.log(answer))) > math.log(LARGEST_MOVE)
    expected = f"answers within a factor of {LARGEST_MOVE:g} of the round before; are decimals or feeds mixed?"
    table.wrong(rescaled, table.name_of(*ANSWER), table.text(*ANSWER), expected)
