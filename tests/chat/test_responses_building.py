"""Any sequence of a model's events is a stream that OpenAI's own client accepts and that adds up to the object."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.chat.responses.bodies import ResponseBody
from dayspring.chat.responses.building import ResponseBuilder
from dayspring.chat.responses.objects import response_head
from dayspring.chat.responses.runs import Run
from dayspring.chat.responses.wire import ResponseObject
from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, TokenLogprob, ToolCallDelta, Usage
from dayspring.core.errors import Busy, Defect, InvalidRequest
from openai_events import check_stream, kinds


def _builder(**fields: Any) -> ResponseBuilder:
    body = ResponseBody.model_validate({"model": "m", "input": "x", **fields})
    return ResponseBuilder(response_head(body, "m", "resp_1", 1_700_000_000))


def _made(said: list[Event], builder: ResponseBuilder | None = None) -> list[dict[str, Any]]:
    builder = builder or _builder()
    events = builder.begin()
    for event in said:
        events += builder.add(event)
    return events + builder.complete(Usage(3, 5, 1), 2, 1_700_000_001)


_texts = st.text(max_size=4)
_scored = st.none() | st.just((TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.0),)),))
_said: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        TextDelta, _texts, kind=st.sampled_from(["content", "content", "reasoning", "refusal"]), logprobs=_scored
    ),
    st.builds(
        ToolCallDelta, _texts, call_index=st.integers(0, 3), id=st.sampled_from(["", "call_1"]), name=st.just("f")
    ),
)


@settings(deadline=None)  # the client builds its types when they are first used
@given(st.lists(_said, max_size=12), st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_whatever_a_model_says_is_a_stream_the_client_accepts(said: list[Event], reason: str) -> None:
    events = _made([*said, ChoiceEnd(reason)])
    final = check_stream(events)
    ResponseObject.model_validate(final)
    assert final["status"] == ("incomplete" if reason in ("length", "content_filter") else "completed")
    spoken = "".join(each.text for each in said if isinstance(each, TextDelta) and each.kind == "content")
    parts = [part for item in final["output"] for part in item.get("content") or ()]
    assert "".join(part["text"] for part in parts if part["type"] == "output_text") == spoken
    called = "".join(sorted("".join(each.arguments for each in said if isinstance(each, ToolCallDelta))))
    assert "".join(sorted("".join(item.get("arguments", "") for item in final["output"]))) == called


@settings(deadline=None)  # the client builds its types when they are first used
@given(st.lists(_said, max_size=8), st.sampled_from(["fail", "cancel"]))
def test_an_end_in_the_middle_closes_what_is_open(said: list[Event], how: str) -> None:
    builder = _builder(background=True)
    events = builder.begin() + builder.start()
    for event in said:
        events += builder.add(event)
    assert not builder.ended
    events += builder.fail(Defect("req_1")) if how == "fail" else builder.cancel(Usage(1, 1))
    final = check_stream(events)
    ResponseObject.model_validate(final)
    assert builder.ended
    assert final["status"] == ("failed" if how == "fail" else "cancelled")
    assert (final["error"] is not None) == (how == "fail")
    assert "in_progress" not in [item["status"] for item in final["output"]]


@settings(deadline=None)  # the client builds its types when they are first used
@given(st.lists(_said, max_size=10), st.integers(-1, 60))
async def test_a_reader_who_comes_back_misses_nothing_and_sees_nothing_twice(said: list[Event], after: int) -> None:
    events = _made(said)
    run = Run(_builder())
    for event in events[:-1]:
        run.add([event])
    run.add(events[-2:], last=True)  # one of them is there already
    assert [event async for event in run.follow(after)] == events[after + 1 :]
    assert [event async for event in run.follow()] == events


def test_a_plain_answer_has_openai_s_sequence() -> None:
    events = _made([TextDelta("Hel"), TextDelta("lo"), ChoiceEnd("stop")])
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    final = events[-1]["response"]
    assert final["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }
    assert events[0]["response"]["output"] == []
    assert final["completed_at"] == 1_700_000_001


def test_thoughts_words_and_calls_are_items_of_their_own() -> None:
    said: list[Event] = [
        TextDelta("hmm", kind="reasoning"), TextDelta("I look."), ToolCallDelta("{", id="c1", name="f"),
        ToolCallDelta("}"), ToolCallDelta("{}", call_index=1, id="c2", name="g"), ChoiceEnd("tool_calls"),
    ]  # fmt: skip
    final = check_stream(_made(said))
    assert [item["type"] for item in final["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert [item.get("call_id") for item in final["output"]][2:] == ["c1", "c2"]
    assert final["status"] == "completed"


def test_a_maximum_makes_it_incomplete_with_its_reason() -> None:
    final = check_stream(_made([TextDelta("so"), ChoiceEnd("length")]))
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][0]["status"] == "incomplete"
    assert final["completed_at"] is None


def test_a_model_that_says_nothing_has_said_an_empty_text() -> None:
    final = check_stream(_made([ChoiceEnd("stop")]))
    assert final["output"][0]["content"][0]["text"] == ""


def test_an_error_has_one_of_openai_s_codes_and_our_sentence() -> None:
    for error, code in (
        (Busy("Wait", retry_after_s=1), "rate_limit_exceeded"),
        (InvalidRequest("No"), "invalid_prompt"),
        (Defect("req_9"), "server_error"),
    ):
        builder = _builder()
        events = builder.begin() + builder.fail(error)
        assert check_stream(events)["error"] == {"code": code, "message": error.message}


def test_what_was_sent_before_does_not_change_with_what_comes() -> None:
    builder = _builder()
    first = builder.begin() + builder.add(TextDelta("a", logprobs=(TokenLogprob("a", -1.0),)))
    seen = [dict(event) for event in first]
    part = first[3]["part"]
    builder.add(TextDelta("b", logprobs=(TokenLogprob("b", -1.0),)))
    assert first == seen
    assert part["text"] == ""
    assert part["logprobs"] == []
