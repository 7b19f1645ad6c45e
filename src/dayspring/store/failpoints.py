"""Named places where a test may end the process, as `kill -9` would.

`DAYSPRING_FAILPOINT=name` or `name:n` ends the process without clean-up at the n-th arrival (first by default) at that
name. Without the variable a fail point is one comparison. It never raises. It is no setting: no operator wants it.
"""

import os

__all__ = ["EXIT_CODE", "hit"]

EXIT_CODE = 137
"""What a shell reports for a process ended by SIGKILL."""

_name, _, _count = os.environ.get("DAYSPRING_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def hit(name: str) -> None:
    """Ends the process here when this is the arrival the environment asked for."""
    global _left  # the countdown belongs to the process, as the variable does
    if not _name or name != _name:
        return
    _left -= 1
    if _left == 0:
        os._exit(EXIT_CODE)
