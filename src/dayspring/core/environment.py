"""What a process of ours hands to its children: everything but our own settings, some of which are secret."""

import os

__all__ = ["child_environment"]


def child_environment(**more: str) -> dict[str, str]:
    """The environment without DAYSPRING_ variables, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAYSPRING_")}
    return kept | more
