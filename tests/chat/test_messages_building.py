"""Any sequence of a model's events is a stream that Anthropic's own client accepts and that adds up to the object."""

from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import (
    Message,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.chat.messages.building import MessageBuilder
from dayspring.chat.messages.wire import MessageObject
from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, ToolCallDelta, Usage

_CLASSES: dict[str, Any] = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    "content_block_delta": RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
}


def _made(said: list[Event], *, thoughts: bool = True) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    builder = MessageBuilder("msg_1", "m", thoughts=thoughts)
    events = builder.begin(Usage(4))
    for event in said:
        events += builder.add(event)
    events += builder.complete(Usage(4, 6, 1))
    return events, builder.message


def _check(events: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """One block at a time, numbered, and the client's own sum is the object."""
    MessageObject.model_validate(message)
    Message.model_validate(message)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    under_way: int | None = None
    blocks = 0
    for event in events:
        if event["type"] == "ping":
            continue
        parsed = _CLASSES[event["type"]].model_validate(event)
        if event["type"] == "content_block_start":
            assert under_way is None
            assert event["index"] == blocks
            under_way, blocks = blocks, blocks + 1
        elif event["type"].startswith("content_block"):
            assert event["index"] == under_way
            under_way = None if event["type"] == "content_block_stop" else under_way
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    assert under_way is None
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[0]["type"] == "message_start"
    for made, summed in zip(message["content"], snapshot.content, strict=True):
        if made["type"] == "tool_use":
            assert (made["id"], made["name"]) == (summed.id, summed.name)
            assert "INVALID_JSON" in made["input"] or made["input"] == summed.input
        else:
            assert made[made["type"]] == getattr(summed, made["type"])
    assert snapshot.stop_reason == message["stop_reason"]
    assert snapshot.usage.output_tokens == message["usage"]["output_tokens"]


_pieces = st.sampled_from(['{"a"', ": 1", "}", '{"b":"c"}', ""])
_said: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, st.text(max_size=4), kind=st.sampled_from(["content", "content", "reasoning", "refusal"])),
    st.builds(ToolCallDelta, _pieces, call_index=st.integers(0, 3), id=st.just("toolu_1"), name=st.just("f")),
)


def _is_json_so_far(said: list[Event]) -> bool:
    """The client parses arguments as they come, so they must be the beginning of JSON, as a model's are."""
    calls: dict[int, str] = {}
    for event in said:
        if isinstance(event, ToolCallDelta):
            calls[event.call_index] = calls.get(event.call_index, "") + event.arguments
    return all(any(whole.startswith(text) for whole in ('{"a": 1}', '{"b":"c"}')) for text in calls.values())


@settings(deadline=None)  # the client builds its types when they are first used
@given(
    st.lists(_said, max_size=12).filter(_is_json_so_far),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
)
def test_whatever_a_model_says_is_a_stream_the_client_accepts(said: list[Event], reason: str) -> None:
    events, message = _made([*said, ChoiceEnd(reason)])
    _check(events, message)
    spoken = "".join(each.text for each in said if isinstance(each, TextDelta) and each.kind == "content")
    assert sorted("".join(block["text"] for block in message["content"] if block["type"] == "text")) == sorted(
        spoken + "".join(each.text for each in said if isinstance(each, TextDelta) and each.kind == "refusal")
    )
    numbers = {each.call_index for each in said if isinstance(each, ToolCallDelta)}
    assert len([block for block in message["content"] if block["type"] == "tool_use"]) == len(numbers)


def test_calls_come_one_after_the_other_also_when_the_model_mixes_them() -> None:
    said: list[Event] = [
        ToolCallDelta('{"a"', id="c0", name="f"), ToolCallDelta('{"b":"c"}', call_index=1, id="c1", name="g"),
        ToolCallDelta(": 1}"), TextDelta("done"), ChoiceEnd("tool_calls"),
    ]  # fmt: skip
    events, message = _made(said)
    _check(events, message)
    assert [(block["type"], block.get("input")) for block in message["content"]] == [
        ("tool_use", {"a": 1}), ("tool_use", {"b": "c"}), ("text", None),
    ]  # fmt: skip
    assert message["stop_reason"] == "tool_use"


def test_a_whole_call_is_closed_when_the_next_begins() -> None:
    builder = MessageBuilder("msg_1", "m", thoughts=True)
    builder.add(ToolCallDelta('{"a": 1}', id="c0", name="f"))
    events = builder.add(ToolCallDelta("{", call_index=1, id="c1", name="g"))
    assert [event["type"] for event in events] == ["content_block_stop", "content_block_start", "content_block_delta"]


def test_thoughts_are_shown_only_to_who_asked_for_them() -> None:
    said: list[Event] = [TextDelta("hm", kind="reasoning"), TextDelta("yes"), ChoiceEnd("stop")]
    assert [block["type"] for block in _made(said)[1]["content"]] == ["thinking", "text"]
    assert [block["type"] for block in _made(said, thoughts=False)[1]["content"]] == ["text"]


def test_a_stop_sequence_is_named_where_the_engine_tells() -> None:
    assert _made([ChoiceEnd("stop", stop="END")])[1]["stop_reason"] == "stop_sequence"
    assert _made([ChoiceEnd("stop", stop="END")])[1]["stop_sequence"] == "END"
    assert _made([ChoiceEnd("stop")])[1]["stop_reason"] == "end_turn"
    assert _made([ChoiceEnd("length")])[1]["stop_reason"] == "max_tokens"


def test_cached_tokens_are_counted_beside_the_others() -> None:
    assert _made([ChoiceEnd("stop")])[1]["usage"] == {
        "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1, "output_tokens": 6,
    }  # fmt: skip


def test_a_call_cut_short_is_kept_as_the_text_it_is() -> None:
    said: list[Event] = [ToolCallDelta('{"a"', id="c0", name="f"), ChoiceEnd("length")]
    assert _made(said)[1]["content"][0]["input"] == {"INVALID_JSON": '{"a"'}
