"""How a venue gets from one parameter set to another when it may not jump: legal states all the way.

Two limits occur. A change may be made of several transactions, each of which sets some fields; they are ordered so that every state
in between is legal. And a process may allow only so large a change at a time; then the way is cut into steps as even as the venue's
integers allow.
"""

from itertools import combinations
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from calibrate.export.native import Native

AnyNative = TypeVar("AnyNative", bound=Native)


class NoLegalWay(Exception):
    """There is no order of the transactions, or no sequence of steps, whose every state is legal."""


class Transaction(NamedTuple):
    """Fields that are set together, and the state after it."""

    fields: tuple[str, ...]
    state: Native


def in_legal_order(before: AnyNative, after: AnyNative) -> list[Transaction]:
    """The transactions that change something, in an order whose every intermediate state keeps the venue's rules."""
    groups = [group for group in before.orders() if any(getattr(before, f) != getattr(after, f) for f in group)]
    found = _ordered(before, after, tuple(groups))
    if found is None:
        names = "; ".join(", ".join(group) for group in groups)
        raise NoLegalWay(f"no order of the transactions ({names}) keeps every state in between legal")
    return found


def _ordered(state: Native, after: Native, groups: tuple[tuple[str, ...], ...]) -> list[Transaction] | None:
    if not groups:
        return []
    for i, group in enumerate(groups):
        moved = _moved(state, {field: getattr(after, field) for field in group})
        rest = None if moved is None else _ordered(moved, after, groups[:i] + groups[i + 1 :])
        if moved is not None and rest is not None:
            return [Transaction(group, moved), *rest]
    return None


def in_steps(before: AnyNative, after: AnyNative, largest: dict[str, int]) -> list[AnyNative]:
    """The states after each step, the last of them `after`; no field that has a largest step moves further in one."""
    moving = {field: getattr(after, field) - getattr(before, field) for field in largest}
    count = max((-(-abs(change) // largest[field]) for field, change in moving.items()), default=0)
    states = [before]
    while states[-1] != after:
        # Where the rules hold fields back, it takes some steps more; each makes headway, so it ends.
        left = max(count - len(states) + 1, 1)
        states.append(_next(states[-1], after, largest, left))
    return states[1:]


def _next(state: AnyNative, after: AnyNative, largest: dict[str, int], left: int) -> AnyNative:
    """One step further with as many fields as the rules allow to move, if possible an even share of what is left."""
    targets = {f: getattr(after, f) for f in type(state).model_fields if getattr(after, f) != getattr(state, f)}
    moves = {f: _toward(getattr(state, f), to, largest[f], left) if f in largest else to for f, to in targets.items()}
    for size in range(len(moves), 0, -1):
        for fields in combinations(moves, size):
            moved = _moved(state, {field: moves[field] for field in fields})
            if moved is not None:
                return moved
    raise NoLegalWay(f"no legal step leads on from {_numbers(state, tuple(moves))}")


def _toward(now: int, target: int, largest: int, left: int) -> int:
    distance = min(-(-abs(target - now) // left), largest)
    return now + distance if target > now else now - distance


def _moved(state: AnyNative, changes: dict[str, object]) -> AnyNative | None:
    try:
        return state.but(**changes)
    except ValidationError:
        return None


def _numbers(state: Native, fields: tuple[str, ...]) -> str:
    return ", ".join(f"{field} {getattr(state, field)}" for field in fields)
