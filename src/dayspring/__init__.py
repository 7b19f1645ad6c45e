"""Dayspring: an open, self-hosted generative-AI platform. The rooms and their order are drawn in ARCHITECTURE.md."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("dayspring")
