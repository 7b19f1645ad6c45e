"""What OpenAI's own client makes of a stream of response events."""

from typing import Any, get_args

from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, response_stream_event

__all__ = ["check_stream", "kinds"]


def _classes() -> dict[str, Any]:
    union = get_args(response_stream_event.ResponseStreamEvent)[0]
    return {get_args(each.model_fields["type"].annotation)[0]: each for each in get_args(union)}


_CLASSES = _classes()
_ENDS = {"response.completed", "response.incomplete", "response.failed"}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The events' types, without what they share."""
    return [event["type"].removeprefix("response.") for event in events]


def check_stream(events: list[dict[str, Any]]) -> dict[str, Any]:
    """That the client's types accept every event, in their order, and that they add up. The final object."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    texts: dict[tuple[int, int], str] = {}
    arguments: dict[int, str] = {}
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        assert (event["type"] in _ENDS) == (number == len(events) - 1)
        parsed = _CLASSES[event["type"]].model_validate(event)
        state.handle_event(parsed)
        where = event.get("output_index"), event.get("content_index")
        match event["type"].removeprefix("response."):
            case "content_part.added":
                assert where not in texts
                texts[where] = ""  # type: ignore[index]
            case "output_text.delta" | "refusal.delta" | "reasoning_text.delta":
                texts[where] += event["delta"]  # type: ignore[index]
            case "output_text.done" | "reasoning_text.done":
                assert event["text"] == texts[where]  # type: ignore[index]
            case "refusal.done":
                assert event["refusal"] == texts[where]  # type: ignore[index]
            case "function_call_arguments.delta":
                index = event["output_index"]
                arguments[index] = arguments.get(index, "") + event["delta"]
            case "function_call_arguments.done":
                assert event["arguments"] == arguments.get(event["output_index"], "")
    final: dict[str, Any] = events[-1]["response"]
    Response.model_validate(final)
    for place, item in enumerate(final["output"]):
        if item["type"] == "function_call":
            assert item["arguments"] == arguments.get(place, "")
        for number, part in enumerate(item.get("content") or ()):
            assert (part["refusal"] if part["type"] == "refusal" else part["text"]) == texts[place, number]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(done) == list(range(len(final["output"])))
    items = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [items[place] for place in range(len(items))] == final["output"]
    return final
