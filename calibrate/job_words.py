"""How what stands in a job file reads to the person who wrote it: values, and keys that are nearly right."""

import difflib
from typing import get_args

from pydantic import BaseModel


def in_words(value: object) -> str:
    """A value from a TOML file as a person would name it."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else f"a list of {len(value)}"
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)


def did_you_mean(name: str, model: type[BaseModel]) -> str:
    """What to do about an unknown key: the nearest keys anywhere in the model, if any is near."""
    close = difflib.get_close_matches(name, sorted(_known_keys(model)), n=2)
    return f"; did you mean {' or '.join(f'`{key}`' for key in close)}?" if close else "; remove it or correct its name"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for info in model.model_fields.values():
        for part in (
            info.annotation,
            *get_args(info.annotation),
            *(b for a in get_args(info.annotation) for b in get_args(a)),
        ):
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys |= _known_keys(part)
    return keys
