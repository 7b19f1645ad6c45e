"""What a service's refusals become: whose fault it is, what to do, and no word of the service's own."""

import msgspec
import orjson
import pytest

from dayspring.core.errors import (
    Busy,
    ContextLengthExceeded,
    DayspringError,
    InvalidRequest,
    TooLarge,
    Unavailable,
    UnsupportedParameter,
    UpstreamFailed,
)
from dayspring.engines.upstream.failures import refusal, refusal_inside, retry_after_s

SECRET = "internal text with sk-123"


def body(code: object = None, param: object = None, kind: str = "invalid_request_error") -> bytes:
    return orjson.dumps({"error": {"message": SECRET, "type": kind, "code": code, "param": param}})


@pytest.mark.parametrize(
    ("status", "content", "kind", "try_next", "unhealthy"),
    [
        (400, body(), InvalidRequest, False, False),
        (400, body("context_length_exceeded", "messages"), ContextLengthExceeded, False, False),
        (400, body("unsupported_value", "temperature"), UnsupportedParameter, False, False),
        (422, b"<html>", InvalidRequest, False, False),
        (413, b"", TooLarge, False, False),
        (401, body("invalid_api_key"), Unavailable, False, False),
        (403, b"", Unavailable, False, False),
        (404, body("model_not_found"), Unavailable, False, False),
        (429, body("rate_limit_exceeded"), Busy, True, False),
        (429, body("insufficient_quota"), Unavailable, True, False),
        (402, b"", Unavailable, True, False),
        (500, body(), UpstreamFailed, True, True),
        (503, b"", UpstreamFailed, True, True),
        (408, b"", UpstreamFailed, True, True),
        (302, b"", UpstreamFailed, False, False),
        (418, b"", UpstreamFailed, False, False),
        (204, b"", UpstreamFailed, False, False),
    ],
)
def test_status_and_code_decide_the_class(
    status: int, content: bytes, kind: type[DayspringError], try_next: bool, unhealthy: bool
) -> None:
    failed = refusal("m", "api.example.com", status, content, None)
    assert type(failed.error) is kind
    assert (failed.try_next, failed.unhealthy) == (try_next, unhealthy)
    assert SECRET not in failed.error.message
    assert failed.error.message.endswith(".")


def test_the_operators_faults_name_the_setting() -> None:
    failed = refusal("m", "api.example.com:8443", 401, b"", None)
    assert "DAYSPRING_UPSTREAM_KEYS" in failed.error.message
    assert "api.example.com:8443" in failed.error.message


def test_known_codes_and_plain_parameters_pass() -> None:
    error = refusal("m", "h", 400, body("invalid_value", "messages[2].content"), None).error
    assert error.param == "messages[2].content"
    assert "invalid_value" in error.message


@pytest.mark.parametrize("param", ["<script>", "a" * 400, "see https://x", "sk-123 leaked", 7])
def test_other_codes_and_parameters_do_not_pass(param: object) -> None:
    error = refusal("m", "h", 400, body("sk-code-123", param), None).error
    assert error.param is None
    assert "sk-" not in error.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": SECRET}, Busy),
        ({"code": "503"}, UpstreamFailed),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, ContextLengthExceeded),
        ({"type": "rate_limit_error"}, Busy),
        ({"message": SECRET}, UpstreamFailed),
        (SECRET, UpstreamFailed),
    ],
)
def test_an_error_inside_a_stream_is_read_alike(error: object, kind: type[DayspringError]) -> None:
    found = refusal_inside("m", "h", msgspec.Raw(orjson.dumps(error)))
    assert type(found.error) is kind
    assert SECRET not in found.error.message


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        ("0", 1.0),
        ("1.5", 1.5),
        ("99999999", 3600.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("soon", None),
        ("-5", None),
        ("nan", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(text: str, wait_s: float | None) -> None:
    assert retry_after_s({"Retry-After": text}, 946684740.0) == wait_s


def test_no_retry_after_is_none_and_busy_still_says_when() -> None:
    assert retry_after_s({}, 0) is None
    assert refusal("m", "h", 429, b"", None).error.retry_after_s == 1.0
    assert refusal("m", "h", 429, b"", 7.0).error.retry_after_s == 7.0
