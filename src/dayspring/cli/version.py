"""`dayspring version`."""

from dayspring import __version__

__all__ = ["version"]


def version() -> None:
    """Print the version."""
    print(__version__)
