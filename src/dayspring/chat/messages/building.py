"""One message as it is made: from a model's events to Anthropic's stream events, and to the object they add up to.

What holds, whatever the model says in whatever order: blocks are numbered from 0, one is under way at a time, each is
started, has its deltas and is stopped once; the deltas of a block, joined, are its content in the object.
"""

from typing import Any

import orjson

from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, ToolCallDelta, Usage
from dayspring.core.ids import new_id

__all__ = ["MessageBuilder", "usage_object"]

StreamEvent = dict[str, Any]

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Anthropic's `usage`, in which cached tokens are not part of the input tokens."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


class MessageBuilder:
    """`begin`, `add` for each event of the model, then `complete`. `thoughts`: whether they were asked for."""

    def __init__(self, identifier: str, model: str, *, thoughts: bool) -> None:
        self._thoughts = thoughts
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[str] = []
        """What the block under way has of text so far."""
        self._call: int | None = None
        """The model's number of the call under way."""
        self._under_way = False
        self._over: set[int] = set()
        """Numbers of the calls that are whole."""
        self._held: dict[object, list[TextDelta | ToolCallDelta]] = {}
        """What came while a call was under way that is not whole, by what it belongs to: blocks come one by one."""
        self._end = ChoiceEnd("stop")
        self._message: dict[str, Any] = {
            "id": identifier, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage_object(Usage(0)),
        }  # fmt: skip

    def answered_by(self, model: str) -> None:
        """The model that answers, where it is another than was thought."""
        self._message["model"] = model

    def begin(self, usage: Usage) -> list[StreamEvent]:
        """`usage`: as far as it is known."""
        message = self._message | {"usage": usage_object(usage)}
        return [{"type": "message_start", "message": message}, {"type": "ping"}]

    def add(self, event: Event) -> list[StreamEvent]:
        if isinstance(event, ChoiceEnd):
            self._end = event
            return []
        if isinstance(event, ToolCallDelta):
            belongs: object = event.call_index
            if event.call_index in self._over:  # nothing of meaning can follow a whole call
                return []
        elif isinstance(event, TextDelta) and event.text and (event.kind != "reasoning" or self._thoughts):
            belongs = event.kind
        else:
            return []
        if self._call is not None and belongs != self._call and (self._held or not _is_whole(self._pieces)):
            self._held.setdefault(belongs, []).append(event)
            return []
        return self._now(event)

    def complete(self, usage: Usage) -> list[StreamEvent]:
        """The end: of the block under way, of what waited for it, and of the message."""
        events = self._stop()
        for held in self._held.values():
            for event in held:
                events += self._now(event)
            events += self._stop()
        reason = _REASONS[self._end.reason]
        if reason == "end_turn" and self._end.stop:
            reason = "stop_sequence"
        ending = {"stop_reason": reason, "stop_sequence": self._end.stop or None}
        counted = usage_object(usage)
        self._message |= {**ending, "content": self._blocks, "usage": counted}
        return [*events, {"type": "message_delta", "delta": ending, "usage": counted}, {"type": "message_stop"}]

    @property
    def message(self) -> dict[str, Any]:
        """The object, once complete."""
        return self._message

    def _now(self, event: TextDelta | ToolCallDelta) -> list[StreamEvent]:
        return self._text(event) if isinstance(event, TextDelta) else self._called(event)

    def _text(self, event: TextDelta) -> list[StreamEvent]:
        kind = "thinking" if event.kind == "reasoning" else "text"
        events: list[StreamEvent] = []
        if not self._under_way or self._blocks[-1]["type"] != kind:
            started: dict[str, Any] = {"type": kind, kind: ""}
            events = self._start(started | ({"signature": ""} if kind == "thinking" else {}))
        self._pieces.append(event.text)
        return [*events, self._delta({"type": f"{kind}_delta", kind: event.text})]

    def _called(self, event: ToolCallDelta) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if self._call != event.call_index:
            taken = {block.get("id") for block in self._blocks}
            identifier = new_id("toolu") if not event.id or event.id in taken else event.id
            events = self._start({"type": "tool_use", "id": identifier, "name": event.name, "input": {}})
            self._call = event.call_index
        if event.arguments:
            self._pieces.append(event.arguments)
            events.append(self._delta({"type": "input_json_delta", "partial_json": event.arguments}))
        return events

    def _start(self, block: dict[str, Any]) -> list[StreamEvent]:
        events = self._stop()
        self._blocks.append(block)
        self._pieces, self._under_way = [], True
        start = {"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": dict(block)}
        return [*events, start]

    def _delta(self, delta: dict[str, Any]) -> StreamEvent:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _stop(self) -> list[StreamEvent]:
        if not self._under_way:
            return []
        block, whole = self._blocks[-1], "".join(self._pieces)
        if self._call is not None:
            block["input"] = _arguments(whole)
            self._over.add(self._call)
        else:
            block[block["type"]] = whole
        self._under_way, self._call = False, None
        return [{"type": "content_block_stop", "index": len(self._blocks) - 1}]


def _is_whole(pieces: list[str]) -> bool:
    try:
        return isinstance(orjson.loads("".join(pieces)), dict)
    except orjson.JSONDecodeError:
        return False


def _arguments(text: str) -> dict[str, Any]:
    """The arguments; of what a maximum cut short, the text under the name that Anthropic proposes for it."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {"INVALID_JSON": text}
    return found if isinstance(found, dict) else {"INVALID_JSON": text}
