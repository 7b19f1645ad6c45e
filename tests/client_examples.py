"""The examples in the README of an official client, taken from the package that is installed, to be run as they are."""

import re
from collections.abc import Iterator
from importlib.metadata import metadata

__all__ = ["blocks", "models_named", "readme"]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MODEL = re.compile(r"""model(?:=|: )["']([\w.-]+)["']""")


def readme(package: str) -> str:
    """The README of an installed Python package, which its metadata carries."""
    return str(metadata(package).get_payload())


def blocks(text: str, *languages: str) -> Iterator[str]:
    for found in _BLOCK.finditer(text):
        if found[1] in languages:
            yield found[2]


def models_named(*examples: str) -> set[str]:
    """The models that the examples ask."""
    return {name for example in examples for name in _MODEL.findall(example)}
