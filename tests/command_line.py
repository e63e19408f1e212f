"""`calibrate ...` in the process of the tests: how a command ended, and what it printed where."""

import contextlib
import io
import sys
from typing import NamedTuple

import pytest

from calibrate import cli


class Answer(NamedTuple):
    """How a command ended, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Answer:
    """`calibrate` with these arguments, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())
