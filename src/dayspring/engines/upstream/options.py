"""The options of an upstream model, checked strictly when the model is added and again when it is loaded.

What holds: no secret fits in here. A key comes from DAYSPRING_UPSTREAM_KEYS by host; a URL with a password in it and a
header that carries one are refused, because options are stored and shown.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from yarl import URL

from dayspring.core.errors import InvalidRequest

__all__ = ["Options", "Target", "read_options"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,4000}")
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key"})
_FRAMING_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "te", "trailer",
     "upgrade", "expect", "accept-encoding"}
)  # fmt: skip


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One place that can answer."""

    url: Annotated[str, msgspec.Meta(max_length=2000)]
    """What stands before `/chat/completions`, e.g. `https://api.example.com/v1`."""
    model: _Name
    """The model's name there."""
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """What usage reports call this target; empty: host and port of `url`."""
    connect_timeout_s: _Seconds = 5
    """To a connection, where none is kept."""
    first_byte_timeout_s: _Seconds = 120
    """From the request to the first event of a stream, or to the first byte of an answer in one piece."""
    idle_timeout_s: _Seconds = 60
    """Between two pieces of an answer."""
    total_timeout_s: _Seconds = 600
    """For the whole answer of this target; DAYSPRING_REQUEST_TIMEOUT_S bounds all targets together."""
    headers: dict[str, str] = {}
    """Sent with every request. Never a key."""
    key_header: Literal["authorization", "api-key", "x-api-key"] = "authorization"
    """Where the key goes; in `authorization` it follows the word Bearer."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the service calls the limit on output in chats. A service that ignores the field it gets would not be
    limited, so the default is the one that services know or refuse."""
    embedding_format: Literal["base64", "float"] = "base64"
    """How vectors are asked for. Either is understood in the answer."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of an upstream model's options."""

    targets: Annotated[tuple[Target, ...], msgspec.Meta(min_length=1, max_length=16)]
    """Tried in this order."""
    parallel: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    """Requests sent at the same time; more wait here."""
    breaker_failures: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    """Failures in a row after which a target is left alone for a while."""
    breaker_pause_s: _Seconds = 1
    """How long at first; doubled each time it fails again, up to a minute."""
    max_answer_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 64 << 20
    """Longest answer read, unpacked."""
    max_event_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 8 << 20
    """Longest single event of a stream."""


def read_options(options: dict[str, Any]) -> Options:
    """The options as typed values. Raises InvalidRequest that names the field and the rule."""
    try:
        found = msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        # Our own validator's sentence about the operator's own options: a field and a rule, no foreign text.
        raise InvalidRequest(f"The upstream options are wrong: {error}. Correct the model's options.") from None
    names = [_check_target(target) for target in found.targets]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"Two targets are named {name!r}. Give each its own 'name'.", param="targets")
    return found


def label(target: Target) -> str:
    """The target's name in reports."""
    return target.name or URL(target.url).authority


def _check_target(target: Target) -> str:
    url = _parse(target.url)
    if url.user or url.password:
        raise InvalidRequest(
            f"The URL of a target at {url.host!r} holds a user or password. Put the key into DAYSPRING_UPSTREAM_KEYS.",
            param="url",
        )
    if url.query_string or url.fragment:
        raise InvalidRequest(f"{target.url!r} ends in a query or fragment. End it with the path.", param="url")
    for name, value in target.headers.items():
        if name.lower() in _SECRET_HEADERS:
            raise InvalidRequest(
                f"The header {name!r} carries a secret. Put the key into DAYSPRING_UPSTREAM_KEYS as "
                f"{url.authority}=KEY, and choose its header with 'key_header'.",
                param="headers",
            )
        if name.lower() in _FRAMING_HEADERS or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequest(f"The header {name!r} cannot be set. Leave it out.", param="headers")
    return label(target)


def _parse(text: str) -> URL:
    try:
        url = URL(text)
        usable = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            "A target's 'url' is no http or https address. Write it like https://host/v1.", param="url"
        )
    return url
