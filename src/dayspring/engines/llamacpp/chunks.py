"""What llama.cpp streams, read strictly into small structs, and turned into events.

One `Reader` for one choice. It counts tokens by the library's own counter, so that the tokens of the deltas add up to
the usage exactly, the end-of-text token included.
"""

import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, TokenLogprob, ToolCallDelta
from dayspring.core.errors import ContextLengthExceeded, DayspringError, Defect, InvalidRequest, PromptOverLimit

__all__ = ["Reader", "failure"]


class _Logprob(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple["_Logprob", ...] = ()


class _Logprobs(msgspec.Struct):
    content: tuple[_Logprob, ...] = ()


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Timings(msgspec.Struct):
    predicted_n: int = 0


class _Progress(msgspec.Struct):
    total: int
    cache: int = 0


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details = msgspec.field(default_factory=_Details)


class _Error(msgspec.Struct):
    code: int = 500
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    timings: _Timings | None = None
    prompt_progress: _Progress | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_LOWEST = -9999.0
"""A log-probability of minus infinity, as JSON can hold it."""


class Reader:
    """Reads one choice's chunks on the library's thread; `emit` is called with each event."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        *,
        index: int,
        model: str,
        prompt_limit: int | None,
        top_logprobs: int | None,
        started: Callable[[int, int], None],
    ) -> None:
        self._emit = emit
        self._index = index
        self._model = model
        self._prompt_limit = prompt_limit
        self._top_logprobs = top_logprobs
        self._started = started
        self._reason = ""
        self._ended = False
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.error: DayspringError | None = None
        self.cancelled = False
        """Set from outside when nobody wants the rest."""

    def feed(self, data: str | dict[str, Any]) -> bool:
        """One chunk. True stops the work. Never raises: the caller is not Python."""
        if self.cancelled:
            return True
        try:
            return self._read(_chunks.decode(data) if isinstance(data, str) else msgspec.convert(data, _Chunk))
        except Exception as error:  # noqa: BLE001 - see above; it ends the answer, and the log has the trace
            traceback.print_exception(error, file=sys.stderr)
            self.error = Defect()
            return True

    def _read(self, chunk: _Chunk) -> bool:
        if chunk.error is not None:
            self.error = failure(self._model, chunk.error)
            return True
        if chunk.prompt_progress is not None:
            return self._progress(chunk.prompt_progress)
        fresh = 0
        if chunk.timings is not None:
            fresh = chunk.timings.predicted_n - self.output_tokens
            self.output_tokens += fresh
        for choice in chunk.choices:
            fresh = self._choice(choice, fresh)
            self._reason = choice.finish_reason or self._reason
        if chunk.usage is not None:
            self._end(chunk.usage, fresh)
        elif fresh:
            self._emit(TextDelta("", self._index, fresh))
        return False

    def _progress(self, progress: _Progress) -> bool:
        if self.input_tokens:
            return False
        self.input_tokens, self.cached_tokens = progress.total, progress.cache
        if self._prompt_limit is not None and progress.total > self._prompt_limit:
            self.error = PromptOverLimit(progress.total)
            return True
        self._started(progress.total, progress.cache)
        return False

    def _choice(self, choice: _Choice, fresh: int) -> int:
        """Emits the choice's deltas; the first carries the new tokens. Gives the tokens not carried yet."""
        delta = choice.delta or _Delta(content=choice.text)
        logprobs = self._logprobs(choice.logprobs)
        for text, kind in ((delta.reasoning_content, "reasoning"), (delta.content, "content")):
            if text:
                self._emit(TextDelta(text, self._index, fresh, kind, logprobs))
                fresh, logprobs = 0, None
        for call in delta.tool_calls or ():
            function = call.function or _Function()
            self._emit(
                ToolCallDelta(
                    function.arguments or "", self._index, call.index, call.id or "", function.name or "", fresh
                )
            )
            fresh = 0
        return fresh

    def _end(self, usage: _Usage, fresh: int) -> None:
        self.input_tokens = usage.prompt_tokens
        self.cached_tokens = usage.prompt_tokens_details.cached_tokens
        rest = fresh + usage.completion_tokens - self.output_tokens
        self.output_tokens = usage.completion_tokens
        if rest:
            self._emit(TextDelta("", self._index, rest))
        self._emit(ChoiceEnd(self._reason or "stop", self._index))
        self._ended = True

    def check_ended(self) -> None:
        """After the last chunk. Raises what went wrong; Defect when the library just stopped."""
        if self.error is not None:
            raise self.error
        if not self._ended and not self.cancelled:
            raise Defect

    def _logprobs(self, found: _Logprobs | None) -> tuple[TokenLogprob, ...] | None:
        if found is None or self._top_logprobs is None:
            return None
        most = self._top_logprobs
        return tuple(_logprob(each, tuple(_logprob(top) for top in each.top_logprobs[:most])) for each in found.content)


def _logprob(found: _Logprob, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    value = _LOWEST if found.logprob is None else found.logprob
    return TokenLogprob(found.token, value, found.bytes, top)


def failure(model: str, found: object) -> DayspringError:
    """Our error for one of the library's, whose text goes to the worker's log only."""
    error = found if isinstance(found, _Error) else msgspec.convert(found, _Error)
    print(f"llama.cpp: {error.type} {error.code}: {error.message}", file=sys.stderr, flush=True)  # noqa: T201 - the log
    if error.type == "exceed_context_size_error":
        return ContextLengthExceeded(model=model, prompt_tokens=error.n_prompt_tokens, context_tokens=error.n_ctx)
    if 400 <= error.code < 500:
        return InvalidRequest(
            f"{model!r} cannot use a part of this request. Check the roles and order of the messages, the tokens of "
            "the prompt and the sampling values."
        )
    return Defect()
