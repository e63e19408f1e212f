"""How long work tells what it is doing: a listener that the command line shows and a library caller may ignore."""

from collections.abc import Callable
from typing import Protocol


class Listener(Protocol):
    """`stage` announces work of `total` units and returns a function to call with units done; `note` passes on a line, and
    `status` one that replaces the last of its kind, such as where a search stands."""

    def stage(self, name: str, total: int) -> Callable[[int], None]: ...

    def note(self, text: str) -> None: ...

    def status(self, text: str) -> None: ...


class Silent:
    """A listener that shows nothing."""

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        del name, total
        return lambda done: None

    def note(self, text: str) -> None:
        del text

    def status(self, text: str) -> None:
        del text


class Under:
    """A listener that says of everything under which scenario it is."""

    def __init__(self, scenario: str, listener: Listener):
        self._scenario, self._listener = scenario, listener

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        return self._listener.stage(f"{self._scenario}: {name}", total)

    def note(self, text: str) -> None:
        self._listener.note(f"{self._scenario}: {text}")

    def status(self, text: str) -> None:
        self._listener.status(f"{self._scenario}: {text}")
