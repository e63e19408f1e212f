"""What an interruption (Ctrl-C) does: it unwinds while a command works, and ends the program at once while libraries load."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

INTERRUPTED = "interrupted; nothing was written"


def stop_at_once(*_: object) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


@contextmanager
def interruptible(said: str = INTERRUPTED) -> Iterator[None]:
    """In here an interruption unwinds, so that what is half written is removed, and this is said, or what
    came up with the interruption. Outside, while JAX is being
    imported, it ends the program at once: raised inside an import it may be lost, or come out as another error."""
    if signal.getsignal(signal.SIGINT) is stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(str(stop) or said, err=True)
        raise typer.Exit(130) from None
