"""What every log line of a request should know, without handing it from function to function."""

from contextvars import ContextVar

__all__ = ["request_id", "set_request_id"]

_request_id: ContextVar[str] = ContextVar("dayspring_request_id", default="")


def request_id() -> str:
    """The id of the request being served, or an empty string outside one."""
    return _request_id.get()


def set_request_id(value: str) -> None:
    _request_id.set(value)
