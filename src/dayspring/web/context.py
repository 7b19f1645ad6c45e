"""What every log line of a request should know, without handing it from function to function."""

from contextvars import ContextVar

__all__ = ["client_address", "request_id", "set_client_address", "set_request_id"]

_client_address: ContextVar[str] = ContextVar("dayspring_client_address", default="")
_request_id: ContextVar[str] = ContextVar("dayspring_request_id", default="")


def request_id() -> str:
    """The id of the request being served, or an empty string outside one."""
    return _request_id.get()


def set_request_id(value: str) -> None:
    _request_id.set(value)


def client_address() -> str:
    """The address of who sent the request being served, its proxies left aside; empty outside one."""
    return _client_address.get()


def set_client_address(value: str) -> None:
    _client_address.set(value)
