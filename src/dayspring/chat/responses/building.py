"""One response as it is made: from a model's events to OpenAI's stream events, and to the object they add up to.

What holds, whatever the model says in whatever order: sequence numbers count up by one; an item is added before it has
parts, a part before it has deltas, and each is done once; the deltas of a part, joined, are its text in the object;
nothing comes after the last event. What it does not do: decide when the end may leave (`service` waits for the books).
"""

from typing import Any

from dayspring.chat.answers import logprob_object
from dayspring.chat.responses.objects import error_object, usage_object
from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, TokenLogprob, ToolCallDelta, Usage
from dayspring.core.errors import DayspringError
from dayspring.core.ids import new_id

__all__ = ["ResponseBuilder"]

StreamEvent = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseBuilder:
    """`begin`, `add` for each event of the model, then one of `complete`, `fail`, `cancel`."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.response = head
        """The object as it stands; its `output` holds items that are done or under way."""
        self._number = 0
        self._calls: dict[int, int] = {}
        """Place in the output, by the model's number of the call."""
        self._open: int | None = None
        """Place of the message or thought that text goes to."""
        self._reason = "stop"

    @property
    def ended(self) -> bool:
        return self.response["status"] not in ("queued", "in_progress")

    @property
    def _output(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.response["output"]
        return found

    def begin(self) -> list[StreamEvent]:
        """A response that is queued says so, and that its work begins with `start`."""
        queued = self.response["status"] == "queued"
        return [self._whole("created"), *([self._whole("queued")] if queued else self.start())]

    def start(self) -> list[StreamEvent]:
        """The work begins."""
        self.response["status"] = "in_progress"
        return [self._whole("in_progress")]

    def add(self, event: Event) -> list[StreamEvent]:
        if isinstance(event, TextDelta) and (event.text or event.logprobs):
            return self._text(event)
        if isinstance(event, ToolCallDelta):
            return self._call(event)
        if isinstance(event, ChoiceEnd):
            self._reason = event.reason
        return []

    def complete(self, usage: Usage, reasoning_tokens: int, completed_at: int) -> list[StreamEvent]:
        """The end the model came to: completed, or incomplete with its reason."""
        why = _INCOMPLETE.get(self._reason)
        events = [] if self._output or why else self._opened("message", "output_text")
        events += self._closed("incomplete" if why else "completed")
        self.response["usage"] = usage_object(usage, reasoning_tokens=reasoning_tokens)
        self.response["status"] = "incomplete" if why else "completed"
        if why:
            self.response["incomplete_details"] = {"reason": why}
        else:
            self.response["completed_at"] = completed_at
        return [*events, self._whole(self.response["status"])]

    def fail(self, error: DayspringError) -> list[StreamEvent]:
        """The end for an error; what was made stays in the output."""
        events = self._closed("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = error_object(error)
        return [*events, self._whole("failed")]

    def cancel(self, usage: Usage | None = None, reasoning_tokens: int = 0) -> list[StreamEvent]:
        """The end that the caller asked for. OpenAI has no event of its own for it: an incomplete one carries it."""
        events = self._closed("incomplete")
        self.response["status"] = "cancelled"
        if usage is not None:
            self.response["usage"] = usage_object(usage, reasoning_tokens=reasoning_tokens)
        return [*events, self._whole("incomplete")]

    def _text(self, event: TextDelta) -> list[StreamEvent]:
        item, part = ("reasoning", "reasoning_text") if event.kind == "reasoning" else ("message", "output_text")
        if event.kind == "refusal":
            part = "refusal"
        events: list[StreamEvent] = []
        if self._open is None or self._output[self._open]["type"] != item:
            events += self._closed_text("completed")
            events += self._opened(item, part)
        place = self._place()
        parts = self._output[place]["content"]
        if parts[-1]["type"] != part:
            events += self._part_done(place, len(parts) - 1)
            events += self._part_added(place, part)
        field = "refusal" if part == "refusal" else "text"
        parts[-1][field] += event.text
        delta: StreamEvent = {"delta": event.text}
        if part == "output_text":
            scored = _scored(event.logprobs)
            parts[-1]["logprobs"] += scored
            delta["logprobs"] = scored
        return [*events, self._of_part(f"{part}.delta", place, len(parts) - 1, **delta)]

    def _call(self, event: ToolCallDelta) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        place = self._calls.get(event.call_index)
        if place is None:
            events += self._closed_text("completed")
            place = self._calls[event.call_index] = len(self._output)
            call = {
                "id": new_id("fc"), "type": "function_call", "status": "in_progress", "arguments": "",
                "call_id": self._call_id(event.id), "name": event.name,
            }  # fmt: skip
            self._output.append(call)
            events.append(self._item("added", place))
        else:
            self._output[place]["name"] += event.name
        if event.arguments:
            item = self._output[place]
            item["arguments"] += event.arguments
            delta = {"item_id": item["id"], "output_index": place, "delta": event.arguments}
            events.append(self._event("function_call_arguments.delta", **delta))
        return events

    def _call_id(self, given: str) -> str:
        """The model's own, unless it has none or has it twice: an answer to it must name one call."""
        taken = {item.get("call_id") for item in self._output}
        return new_id("call") if not given or given in taken else given

    def _place(self) -> int:
        if self._open is None:
            raise AssertionError("no text is under way")
        return self._open

    def _opened(self, kind: str, part: str) -> list[StreamEvent]:
        self._open = len(self._output)
        item: dict[str, Any] = {"id": new_id("msg" if kind == "message" else "rs"), "type": kind, "content": []}
        item["status"] = "in_progress"
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["summary"] = []
        self._output.append(item)
        return [self._item("added", self._open), *self._part_added(self._open, part)]

    def _part_added(self, place: int, kind: str) -> list[StreamEvent]:
        part: dict[str, Any] = {"type": kind}
        part |= {"refusal": ""} if kind == "refusal" else {"text": ""}
        if kind == "output_text":
            part |= {"annotations": [], "logprobs": []}
        parts = self._output[place]["content"]
        parts.append(part)
        return [self._of_part("content_part.added", place, len(parts) - 1, part=_copy(part))]

    def _part_done(self, place: int, number: int) -> list[StreamEvent]:
        part = self._output[place]["content"][number]
        kind = part["type"]
        field = "refusal" if kind == "refusal" else "text"
        said: StreamEvent = {field: part[field]}
        if kind == "output_text":
            said["logprobs"] = list(part["logprobs"])
        return [
            self._of_part(f"{kind}.done", place, number, **said),
            self._of_part("content_part.done", place, number, part=_copy(part)),
        ]

    def _closed_text(self, status: str) -> list[StreamEvent]:
        """The end of the message or thought under way, if there is one."""
        if self._open is None:
            return []
        place, self._open = self._open, None
        events = self._part_done(place, len(self._output[place]["content"]) - 1)
        self._output[place]["status"] = status
        return [*events, self._item("done", place)]

    def _closed(self, status: str) -> list[StreamEvent]:
        """The end of all that is under way; the last item has the status, since it is where the model stopped."""
        events: list[StreamEvent] = []
        last = len(self._output) - 1
        for place in sorted(self._calls.values()):
            item = self._output[place]
            item["status"] = status if place == last else "completed"
            done = {"item_id": item["id"], "output_index": place, "arguments": item["arguments"], "name": item["name"]}
            events += [self._event("function_call_arguments.done", **done), self._item("done", place)]
        self._calls = {}
        return events + self._closed_text(status)

    def _of_part(self, kind: str, place: int, number: int, **more: Any) -> StreamEvent:
        item = self._output[place]["id"]
        return self._event(kind, item_id=item, output_index=place, content_index=number, **more)

    def _item(self, kind: str, place: int) -> StreamEvent:
        return self._event(f"output_item.{kind}", output_index=place, item=_copy(self._output[place]))

    def _whole(self, kind: str) -> StreamEvent:
        return self._event(kind, response=self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """The object as it stands, apart from what comes later."""
        return {**self.response, "output": [_copy(item) for item in self._output]}

    def _event(self, kind: str, **fields: Any) -> StreamEvent:
        event = {"type": f"response.{kind}", "sequence_number": self._number, **fields}
        self._number += 1
        return event


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """Apart from what is still added to."""
    copied = dict(item)
    for name, value in item.items():
        if isinstance(value, list):
            copied[name] = [dict(each) if isinstance(each, dict) else each for each in value]
            for each in copied[name]:
                if isinstance(each, dict) and "logprobs" in each:
                    each["logprobs"] = list(each["logprobs"])
    return copied


def _scored(logprobs: tuple[TokenLogprob, ...] | None) -> list[dict[str, Any]]:
    return [logprob_object(each) for each in logprobs or ()]
