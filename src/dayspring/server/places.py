"""Where limits, budgets and alerts hang: on the organization, a project or a key, at the same paths below each."""

from collections.abc import Callable

from dayspring.accounts.budgets import KEY, ORGANIZATION, PROJECT
from dayspring.accounts.owners import Ref
from dayspring.core.errors import InvalidRequest

__all__ = ["OBJECTS", "PLACES", "check_currency", "nanos_of", "whole_cents"]

OBJECTS = {ORGANIZATION: "organization", PROJECT: "project", KEY: "project.api_key"}
"""How the `object` of what hangs there begins."""

_CENT = 10_000_000
"""Nano-units in a hundredth of the currency's unit, OpenAI's unit for amounts."""


def _organization() -> Ref:
    return Ref(level=ORGANIZATION)


def _project(project_id: str) -> Ref:
    return Ref(project_id, PROJECT)


def _key(project_id: str, api_key_id: str) -> Ref:
    return Ref(api_key_id, KEY, project_id)


PLACES: tuple[tuple[str, Callable[..., Ref]], ...] = (
    ("/v1/organization", _organization),
    ("/v1/organization/projects/{project_id}", _project),
    ("/v1/organization/projects/{project_id}/api_keys/{api_key_id}", _key),
)
"""The path of each and who is named by it."""


def check_currency(given: str, ours: str) -> None:
    """Raises InvalidRequest."""
    if given != ours:
        raise InvalidRequest(f"This installation counts in {ours}. Send that as the currency.", param="currency")


def nanos_of(cents: int | None, nanos: int | None, param: str) -> int | None:
    """An amount that is given in one unit or the other. Raises InvalidRequest for both."""
    if cents is not None and nanos is not None:
        raise InvalidRequest(f"{param!r} was given as an amount and in nano-units. Send one of them.", param=param)
    return nanos if cents is None else cents * _CENT


def whole_cents(nanos: int | None) -> int | None:
    """Rounded down."""
    return None if nanos is None else nanos // _CENT
