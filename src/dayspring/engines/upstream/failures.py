"""What a service's refusals and faults mean for the client and for the operator.

What holds: no text of the service reaches a client. A code of OpenAI's own vocabulary may pass, and a parameter's name
when it reads like one. Whose fault it is decides the class: the request's (InvalidRequest), the operator's
(Unavailable, with the setting to correct), the moment's (Busy, TimedOut) or the service's (UpstreamFailed).
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from dayspring.core.errors import (
    Busy,
    DayspringError,
    InvalidRequest,
    TimedOut,
    Unavailable,
    UnsupportedParameter,
    UpstreamFailed,
    rebuild,
)

__all__ = ["AttemptError", "malformed", "refusal", "refusal_inside", "retry_after_s", "timed_out", "unreachable"]

_KNOWN_CODES: Final = frozenset(
    {"array_above_max_length", "array_below_min_length", "content_filter", "content_policy_violation", "empty_array",
     "image_too_large", "image_too_small", "integer_above_max_value", "integer_below_min_value", "invalid_base64_image",
     "invalid_function_parameters", "invalid_image", "invalid_image_format", "invalid_image_url", "invalid_json_schema",
     "invalid_type", "invalid_value", "missing_required_parameter", "number_above_max_value", "number_below_min_value",
     "string_above_max_length", "string_below_min_length", "unsupported_image_media_type"}
)  # fmt: skip
_UNSUPPORTED_CODES: Final = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_NO_CREDIT_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_PARAMETER: Final = re.compile(r"[a-z][a-z_]{0,40}(\[\d{1,5}\]|\.[a-z][a-z_]{0,40}){0,8}")

_LEAST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 3600.0


class AttemptError(Exception):
    """One target did not answer. `error` is for the client if no other target does."""

    def __init__(self, error: DayspringError, *, try_next: bool, unhealthy: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.try_next = try_next
        """May another target be asked? Not when the request itself is at fault, or a setting."""
        self.unhealthy = unhealthy
        """Does it count for the circuit breaker?"""


class _ErrorBody(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    param: str | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


_error_answers: Final = msgspec.json.Decoder(_ErrorAnswer)
_error_bodies: Final = msgspec.json.Decoder(_ErrorBody)


def unreachable(model: str, reason: str = "could not be reached") -> AttemptError:
    """No connection, or one that ended before anything came."""
    return AttemptError(UpstreamFailed(model=model, reason=reason, retry_after_s=1), try_next=True, unhealthy=True)


def malformed(model: str, reason: str) -> UpstreamFailed:
    """The answer came and is not what the protocol says."""
    return UpstreamFailed(model=model, reason=reason)


def timed_out(model: str, *, limit_s: float, setting: str, started: bool = False) -> AttemptError:
    """`started`: part of the answer had come, so no other target may be asked."""
    error = TimedOut(f"The service behind {model!r}", limit_s=limit_s, setting=setting)
    return AttemptError(error, try_next=not started, unhealthy=True)


def refusal(model: str, host: str, status: int, body: bytes, wait_s: float | None) -> AttemptError:
    """An answer whose status is not 200. `body` may be cut short; `wait_s` is what Retry-After said."""
    try:
        return _refusal(model, host, status, _error_answers.decode(body).error, wait_s)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _refusal(model, host, status, _ErrorBody(), wait_s)


def refusal_inside(model: str, host: str, error: msgspec.Raw) -> AttemptError:
    """An error object inside an answer of status 200, as streams have them."""
    try:
        body = _error_bodies.decode(error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = _ErrorBody()
    if isinstance(body.code, int) and 400 <= body.code <= 599:
        status = body.code
    elif isinstance(body.code, str) and re.fullmatch(r"[45]\d\d", body.code):
        status = int(body.code)
    elif body.type == "invalid_request_error":
        status = 400
    else:
        status = 429 if body.type in {"rate_limit_error", "rate_limit_exceeded"} else 502
    return _refusal(model, host, status, body, None)


def _refusal(model: str, host: str, status: int, body: _ErrorBody, wait_s: float | None) -> AttemptError:
    if body.code in _NO_CREDIT_CODES or status == 402:
        error: DayspringError = Unavailable(
            f"The service behind {model!r} says that its account has no credit left",
            f"The operator must add credit at {host}, or set another key in DAYSPRING_UPSTREAM_KEYS.",
        )
        return AttemptError(error, try_next=True, unhealthy=False)
    if status == 429:
        error = Busy(f"The service behind {model!r} is at its limit", retry_after_s=wait_s or _LEAST_WAIT_S)
        return AttemptError(error, try_next=True, unhealthy=False)
    if status >= 500 or status == 408:
        error = UpstreamFailed(model=model, reason=f"failed with status {status}", retry_after_s=wait_s)
        return AttemptError(error, try_next=True, unhealthy=True)
    return AttemptError(_final(model, host, status, body), try_next=False, unhealthy=False)


def _final(model: str, host: str, status: int, body: _ErrorBody) -> DayspringError:
    """Refusals that another target is not asked about."""
    if status in {401, 403}:
        return Unavailable(
            f"The service behind {model!r} does not accept this installation's key",
            f"The operator must set the key of {host} in DAYSPRING_UPSTREAM_KEYS.",
        )
    if status in {404, 405, 410}:
        return Unavailable(
            f"The service behind {model!r} does not have that model or does not do this kind of task",
            "The operator must correct 'url' and 'model' in the options of the model's target.",
        )
    if 300 <= status < 400:
        return UpstreamFailed(model=model, reason="answered with a redirect, which is never followed")
    if status in {400, 413, 422}:
        return _at_fault(model, status, body)
    return UpstreamFailed(model=model, reason=f"answered with status {status}")


def _at_fault(model: str, status: int, body: _ErrorBody) -> InvalidRequest:
    """The request is at fault: by which rule, if it is one of OpenAI's, and in which field, if that is named."""
    param = body.param if body.param and _PARAMETER.fullmatch(body.param) else None
    made: DayspringError | None = None
    if body.code == "context_length_exceeded":
        message = f"The prompt and the answer asked for do not fit {model!r}. Shorten the prompt, or ask for less."
        made = rebuild("context_length_exceeded", message, param or "messages")
    elif status == 413:
        made = rebuild("too_large", f"The request is too large for the service behind {model!r}. Send less.", param)
    if isinstance(made, InvalidRequest):
        return made
    if body.code in _UNSUPPORTED_CODES and param:
        return UnsupportedParameter(param, f"the service behind {model!r} does not take it. Leave it out.")
    rule = f" ({body.code})" if body.code in _KNOWN_CODES else ""
    remedy = f"Correct {param!r}" if param else "Correct the request"
    return InvalidRequest(f"The service behind {model!r} refused the request{rule}. {remedy}.", param=param)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that Retry-After asks for (a number or a date: RFC 9110, 10.2.3), from 1 to 3,600; None without one."""
    text = headers.get("Retry-After", "")
    try:
        wait = (
            float(text)
            if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text)
            else parsedate_to_datetime(text).timestamp() - now_s
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, _LEAST_WAIT_S), _LONGEST_WAIT_S)
