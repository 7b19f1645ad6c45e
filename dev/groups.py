"""Prints the requirements of dependency groups of pyproject.toml, one a line.

For pip older than 25.1, which cannot read groups itself; Debian 12's is 23.0.
"""

import sys
import tomllib
from pathlib import Path


def group(name: str) -> list[str]:
    """The requirements of `name`. Raises KeyError for a group that is not there."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["dependency-groups"][name])


if __name__ == "__main__":
    print("\n".join(line for name in sys.argv[1:] for line in group(name)))
