"""What a user can do wrong, and how it reads.

Every mistake in an input is a `Problem`: where it is, what was found and expected, what to do. Readers collect all
problems of a file and raise them together as one `UserError`; the command line prints them to stderr, one line each,
and exits with code 2. Anything else that is raised is a bug of ours and keeps its traceback.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `place` is a file, with the key, row or column inside it after a colon."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class UserError(Exception):
    """One or more problems that the user can mend. Printed without a traceback; exit code 2."""

    def __init__(self, problems: list[Problem] | str):
        self.problems = [Problem("", problems)] if isinstance(problems, str) else problems
        super().__init__("\n".join(str(problem) for problem in self.problems))


def raise_all(problems: list[Problem]) -> None:
    """Raise the problems together, if there are any."""
    if problems:
        raise UserError(problems)
