"""From events to OpenAI's objects: whole answers, and the chunks of a stream.

What holds: a stream's deltas, joined, are the whole answer; the chunk that ends a choice is made only when asked for,
so that the service can send it after the money is settled.
"""

from typing import Any

from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, TokenLogprob, ToolCallDelta, Usage

__all__ = ["ChatAnswer", "ChatChunks", "usage_object"]


def usage_object(usage: Usage, *, reasoning_tokens: int = 0) -> dict[str, Any]:
    """OpenAI's `usage`."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprob_object(logprob: TokenLogprob) -> dict[str, Any]:
    """One token of `logprobs.content`."""
    return {**_scored(logprob), "top_logprobs": [_scored(other) for other in logprob.top]}


def _scored(logprob: TokenLogprob) -> dict[str, Any]:
    spelled = list(logprob.bytes) if logprob.bytes is not None else list(logprob.token.encode())
    return {"token": logprob.token, "logprob": logprob.logprob, "bytes": spelled}


class ChatAnswer:
    """Collects one choice of a whole answer."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: list[dict[str, Any]] | None = None
        self.reason = "stop"

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            parts = {"reasoning": self.reasoning, "refusal": self.refusal}.get(event.kind, self.content)
            parts.append(event.text)
            if event.logprobs is not None:
                self.logprobs = [*(self.logprobs or []), *map(logprob_object, event.logprobs)]
        elif isinstance(event, ToolCallDelta):
            call = self.calls.setdefault(
                event.call_index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            call["id"] = call["id"] or event.id
            call["function"]["name"] += event.name
            call["function"]["arguments"] += event.arguments
        elif isinstance(event, ChoiceEnd):
            self.reason = event.reason

    def choice(self, index: int) -> dict[str, Any]:
        """OpenAI's choice object."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content), "refusal": None}
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [self.calls[place] for place in sorted(self.calls)]
            message["content"] = message["content"] or None
        logprobs = None if self.logprobs is None else {"content": self.logprobs, "refusal": None}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.reason}


class ChatChunks:
    """Makes the chunks of one stream."""

    def __init__(self, identifier: str, model: str, created: int, *, include_usage: bool) -> None:
        self.head: dict[str, Any] = {
            "id": identifier,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": None,
        }
        self.include_usage = include_usage

    def opening(self, index: int) -> dict[str, Any]:
        """The chunk that names the speaker."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def delta(self, event: TextDelta | ToolCallDelta) -> dict[str, Any]:
        if isinstance(event, ToolCallDelta):
            call: dict[str, Any] = {"index": event.call_index, "function": {"arguments": event.arguments}}
            if event.id or event.name:
                call |= {"id": event.id, "type": "function"}
                call["function"]["name"] = event.name
            return self._chunk(event.index, {"tool_calls": [call]})
        field = {"reasoning": "reasoning_content", "refusal": "refusal"}.get(event.kind, "content")
        chunk = self._chunk(event.index, {field: event.text})
        if event.logprobs is not None:
            chunk["choices"][0]["logprobs"] = {"content": [*map(logprob_object, event.logprobs)], "refusal": None}
        return chunk

    def end(self, event: ChoiceEnd) -> dict[str, Any]:
        return self._chunk(event.index, {}, event.reason)

    def usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The extra chunk that `include_usage` asks for."""
        return {**self.head, "choices": [], "usage": usage}

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self.head, "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk
