"""Every error a client can meet, in one tree.

    DayspringError                     code, status, type; facts in, sentence out; the last clause says what to do
    ├── InvalidRequest                 400 what is asked cannot be done as asked
    │   ├── Malformed                  400 the body is not what the route reads
    │   ├── UnsupportedParameter       400 a field or schema keyword this model cannot honour
    │   ├── ContextLengthExceeded      400 the prompt does not fit the model
    │   ├── TooLarge                   413 the body is over the limit
    │   ├── HeadTooLarge               431 the address or the headers are over the limit
    │   ├── ClientTooSlow              408 the request did not arrive in time
    │   ├── Misdirected                421 the request names another host
    │   ├── OutOfRange                 416 the file ends before the part that is asked for
    │   ├── DiskQuotaExceeded          413 the project has no disk space left for it
    │   └── Refused                    400 a model or file that a safety rule refuses
    ├── Unauthenticated                401 no key, or one that is not ours
    │   └── SignInFailed               401 who signs in could not be verified
    ├── PermissionDenied               403 the key may not do this
    ├── NotFound                       404 no such thing in this project
    ├── Conflict                       409 the thing is in another state
    │   └── ReservationLost            409 the request was released or settled otherwise before
    ├── InsufficientQuota              429 the budget does not cover the request's upper bound
    ├── Busy                           429 a limit on rate or concurrency was met
    ├── Unavailable                    503 what the request needs is not there now
    │   ├── WorkerDied                 503 the process that ran the model ended
    │   ├── OutOfMemory                503 no device has room for the model
    │   └── UpstreamFailed             502 the service behind a model did not answer properly
    ├── TimedOut                       504 a limit on time was met
    ├── PromptOverLimit                -   between engine and dispatch only: reserve again, for more input tokens
    └── Defect                         500 a fault of ours, named by its request id only

What holds: `code` never changes meaning between releases; a message never carries the text of a foreign exception, a
secret, or a path outside the installation's own folder (a command line user's own input excepted).
What it does not do: HTTP. `web` turns these into the one wire shape.
"""

from typing import ClassVar

__all__ = [
    "Busy",
    "ClientTooSlow",
    "Conflict",
    "ContextLengthExceeded",
    "DayspringError",
    "Defect",
    "DiskQuotaExceeded",
    "HeadTooLarge",
    "InsufficientQuota",
    "InvalidRequest",
    "Malformed",
    "Misdirected",
    "NotFound",
    "OutOfMemory",
    "OutOfRange",
    "PermissionDenied",
    "PromptOverLimit",
    "Refused",
    "ReservationLost",
    "SignInFailed",
    "TimedOut",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedParameter",
    "UpstreamFailed",
    "WorkerDied",
]


class DayspringError(Exception):
    """The root. Subclasses build their sentence from facts; `param` names the request field at fault, if one is.

    Instances survive pickling and the wire between processes: see `contracts.wire`.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        """Seconds after which the same call may succeed; None where waiting does not help."""

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses take facts, not a message, so the default pickling would call them with the wrong arguments.
        return (_rebuild, (type(self), self.message, self.param, self.retry_after_s))


def _rebuild(
    kind: type[DayspringError], message: str, param: str | None, retry_after_s: float | None
) -> DayspringError:
    error = kind.__new__(kind)
    DayspringError.__init__(error, message, param=param, retry_after_s=retry_after_s)
    return error


def rebuild(code: str, message: str, param: str | None = None, retry_after_s: float | None = None) -> DayspringError:
    """The error that had this `code`, as it crossed from another process. An unknown code becomes a Defect."""
    return _rebuild(_BY_CODE.get(code, Defect), message, param, retry_after_s)


class InvalidRequest(DayspringError):
    code = "invalid_request"
    status = 400
    type = "invalid_request_error"


class Malformed(InvalidRequest, ValueError):
    """The body, header or query cannot be read. `reason` is our own wording, `location` the field's path."""

    code = "malformed"

    def __init__(self, reason: str, *, location: str | None = None) -> None:
        where = f" at {location!r}" if location else ""
        super().__init__(f"The request could not be read{where}: {reason}", param=location)


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param!r} is not supported here: {reason.rstrip('.')}.", param=param)


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"

    def __init__(self, *, model: str, prompt_tokens: int, context_tokens: int, param: str = "messages") -> None:
        super().__init__(
            f"The prompt is {prompt_tokens} tokens and {model!r} reads at most {context_tokens}. "
            "Shorten the prompt, or choose a model with a longer context.",
            param=param,
        )


class TooLarge(InvalidRequest):
    code = "too_large"
    status = 413

    def __init__(self, *, what: str, limit_bytes: int, setting: str) -> None:
        super().__init__(f"{what} is over the limit of {limit_bytes} bytes. Send less, or raise {setting}.")


class DiskQuotaExceeded(InvalidRequest):
    """What is sent and what the project keeps are together more than it may keep."""

    code = "disk_quota_exceeded"
    status = 413

    def __init__(self, *, quota_bytes: int) -> None:
        super().__init__(
            f"With this the project would keep more than its {quota_bytes} bytes. "
            "Delete files it no longer needs, or have an administrator raise its disk quota."
        )


class HeadTooLarge(InvalidRequest):
    """The address and headers of the request are over the limit; 414 where it is the address alone."""

    code = "head_too_large"
    status = 431

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The address or the headers of the request are over {limit_bytes} bytes. Send what is long in the body."
        )


class ClientTooSlow(InvalidRequest):
    """The request did not arrive in time."""

    code = "client_too_slow"
    status = 408

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(
            f"{what} did not arrive within {limit_s:g} s. Send it faster, or raise DAYSPRING_CLIENT_TIMEOUT_S."
        )


class Misdirected(InvalidRequest):
    """The request came here under a name that is not this server's."""

    code = "misdirected"
    status = 421

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host!r} is not a name of this server. Call it by its address, or add the name to "
            "DAYSPRING_ALLOWED_HOSTS."
        )


class OutOfRange(InvalidRequest):
    """The part of a file that the Range header asks for begins where the file has ended."""

    code = "out_of_range"
    status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The file has {size_bytes} bytes. Ask for a part of them, or leave the Range header out.")
        self.size_bytes = size_bytes


class Refused(InvalidRequest):
    """A model or file a safety rule refuses: which file, which rule, what to do."""

    code = "refused"

    def __init__(self, *, file: str, rule: str, remedy: str) -> None:
        super().__init__(f"{file!r} was refused: {rule}. {remedy}")


class Unauthenticated(DayspringError):
    code = "invalid_api_key"
    status = 401
    type = "authentication_error"

    def __init__(self, reason: str = "No valid API key was sent", remedy: str = "") -> None:
        send = "Send 'Authorization: Bearer <key>' with a key made by 'dayspring keys create'."
        super().__init__(f"{reason}. {remedy or send}")


class SignInFailed(Unauthenticated):
    """Which of email, password and link was wrong is not told."""

    code = "invalid_credentials"

    def __init__(self, reason: str, remedy: str) -> None:
        DayspringError.__init__(self, f"{reason}. {remedy}")


class PermissionDenied(DayspringError):
    code = "permission_denied"
    status = 403
    type = "permission_error"

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")


class NotFound(DayspringError, LookupError):
    code = "not_found"
    status = 404
    type = "invalid_request_error"

    def __init__(self, kind: str, identifier: str, remedy: str = "Check the id.", *, param: str | None = None) -> None:
        super().__init__(f"There is no {kind} {identifier!r}. {remedy}", param=param)


class Conflict(DayspringError):
    code = "conflict"
    status = 409
    type = "invalid_request_error"

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")


class ReservationLost(Conflict):
    """The money of this request is no longer held, so it can neither be charged nor answered."""

    code = "reservation_lost"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The reservation of request {request_id} is no longer held", "Send the request again.")


class InsufficientQuota(DayspringError):
    """The budget left does not cover what the request could cost at most."""

    code = "insufficient_quota"
    status = 429
    type = "insufficient_quota"

    left_nanos: int | None = None
    """What the tightest budget has left, so that dispatch can say which maximum would fit. Not sent over the wire."""

    def __init__(self, *, owner: str, left: str, bound: str, remedy: str, left_nanos: int | None = None) -> None:
        super().__init__(
            f"The budget of {owner} has {left} left and this request could cost up to {bound}. {remedy}",
        )
        self.left_nanos = left_nanos
        self._facts = (owner, left, bound)

    def with_remedy(self, remedy: str) -> "InsufficientQuota":
        """The same refusal, with a better word on what to do."""
        owner, left, bound = self._facts
        return InsufficientQuota(owner=owner, left=left, bound=bound, remedy=remedy, left_nanos=self.left_nanos)


class Busy(DayspringError):
    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"

    def __init__(self, reason: str, *, retry_after_s: float) -> None:
        super().__init__(f"{reason}. Try again in {retry_after_s:g} s.", retry_after_s=retry_after_s)


class Unavailable(DayspringError):
    code = "unavailable"
    status = 503
    type = "api_error"

    def __init__(self, reason: str, remedy: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}. {remedy}", retry_after_s=retry_after_s)


class WorkerDied(Unavailable):
    code = "worker_died"

    def __init__(self, *, model: str) -> None:
        super().__init__(f"The process that ran {model!r} ended", "Send the request again.", retry_after_s=1)


class OutOfMemory(Unavailable, MemoryError):
    code = "out_of_memory"

    def __init__(self, *, model: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"{model!r} needs {needed_bytes >> 20} MiB and {free_bytes >> 20} MiB can be made free",
            "Unpin or remove another model, raise DAYSPRING_MEMORY_BYTES, or choose a smaller model.",
        )


class UpstreamFailed(Unavailable):
    code = "upstream_failed"
    status = 502

    def __init__(self, *, model: str, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"The service behind {model!r} {reason}", "Try again, or use another model.", retry_after_s=retry_after_s
        )


class TimedOut(DayspringError, TimeoutError):
    code = "timed_out"
    status = 504
    type = "api_error"

    def __init__(self, what: str, *, limit_s: float, setting: str) -> None:
        super().__init__(f"{what} took over {limit_s:g} s. Ask for less, or raise {setting}.")


class PromptOverLimit(DayspringError):
    """The prompt has more tokens than the task's `prompt_limit`; nothing was computed. Dispatch reserves again."""

    code = "prompt_over_limit"

    def __init__(self, input_tokens: int) -> None:
        super().__init__(str(input_tokens))

    @property
    def input_tokens(self) -> int:
        return int(self.message)


class Defect(DayspringError):
    """A fault of ours. The log has the trace under the request's id; the client gets only the id."""

    code = "internal_error"

    def __init__(self, request_id: str = "") -> None:
        super().__init__(f"Something failed inside the server (request {request_id}). Report it with this id.")


def tree(root: type[DayspringError] = DayspringError) -> list[type[DayspringError]]:
    """Every class of the tree, root first, in order of definition."""
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


_BY_CODE = {kind.code: kind for kind in tree()}
