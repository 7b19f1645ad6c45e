"""Forced calls: the schema the model is held to, and the call read back from its text."""

import itertools
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayspring.chat import tools
from dayspring.chat.bodies import ChatCompletionBody
from dayspring.contracts.events import ChoiceEnd, TextDelta, ToolCallDelta
from dayspring.core.errors import Malformed

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/place"}},
            "required": ["place"],
            "$defs": {"place": {"type": "string"}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def body(**fields: object) -> ChatCompletionBody:
    return ChatCompletionBody.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})


def test_one_forced_tool_is_held_to_its_own_parameters() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    plan = tools.plan(body(tools=[WEATHER, CLOCK], tool_choice=choice), speaks_openai=False)
    assert plan.schema == WEATHER["function"]["parameters"]
    assert plan.tools == ()
    assert "weather" in plan.preface[0]["content"]


def test_a_required_choice_of_several_moves_each_tools_definitions() -> None:
    plan = tools.plan(body(tools=[WEATHER, CLOCK], tool_choice="required"), speaks_openai=False)
    assert plan.schema is not None
    good = {"name": "weather", "arguments": {"place": "Oslo"}}
    jsonschema.validate(good, plan.schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "weather", "arguments": {"place": 3}}, plan.schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "other", "arguments": {}}, plan.schema)


def test_auto_leaves_the_tools_to_the_model() -> None:
    plan = tools.plan(body(tools=[WEATHER]), speaks_openai=False)
    assert plan.schema is None
    assert plan.tools[0]["function"]["name"] == "weather"


def test_none_hides_the_tools() -> None:
    assert tools.plan(body(tools=[WEATHER], tool_choice="none"), speaks_openai=False).tools == ()


def test_an_upstream_gets_the_choice_as_it_was_sent() -> None:
    plan = tools.plan(body(tools=[WEATHER], tool_choice="required"), speaks_openai=True)
    assert plan.extra == {"tool_choice": "required"}
    assert plan.schema is None


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_contradiction_is_named(fields: dict[str, object], location: str) -> None:
    with pytest.raises(Malformed) as refused:
        tools.plan(body(**fields), speaks_openai=False)
    assert refused.value.param == location


def chunked(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


@given(
    arguments=st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=4),
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=12),
    several=st.booleans(),
    spaced=st.booleans(),
)
def test_the_call_read_from_a_stream_is_the_call_that_was_written(
    arguments: dict[str, object], cuts: list[int], several: bool, spaced: bool
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    inner = json.dumps(arguments, separators=separators, ensure_ascii=False)
    whole = json.dumps({"name": "weather", "arguments": arguments}, separators=separators, ensure_ascii=False)
    offered = tools.forced_tool(body(tools=[WEATHER, CLOCK] if several else [WEATHER], tool_choice="required"))
    reader = tools.CallReader(offered)
    events = [TextDelta(part) for part in chunked(whole if several else inner, cuts)]
    read = [out for event in [*events, ChoiceEnd("stop")] for out in reader.read(event)]
    calls = [event for event in read if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "weather"
    assert calls[0].id.startswith("call_")
    assert json.loads("".join(call.arguments for call in calls)) == arguments
    assert read[-1] == ChoiceEnd("tool_calls")


def test_a_call_cut_by_length_keeps_its_reason() -> None:
    reader = tools.CallReader(tools.forced_tool(body(tools=[WEATHER], tool_choice="required")))
    assert list(reader.read(ChoiceEnd("length"))) == [ChoiceEnd("length")]


def test_of_a_call_cut_by_length_nothing_is_held_back() -> None:
    reader = tools.CallReader(tools.forced_tool(body(tools=[WEATHER, CLOCK], tool_choice="required")))
    said = '{"name": "weather", "arguments": {"place": "Oslo"}'
    read = [out for event in [TextDelta(said), ChoiceEnd("length")] for out in reader.read(event)]
    calls = [event for event in read if isinstance(event, ToolCallDelta)]
    assert "".join(call.arguments for call in calls) == '{"place": "Oslo"}'
    assert read[-1] == ChoiceEnd("length")


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "own", "schema": SCHEMA}},
        {"type": "json_schema", "json_schema": {"name": "own", "schema": SCHEMA, "strict": False}},
    ],
)
def test_an_upstream_gets_a_format_that_need_not_be_strict_as_it_was_sent(wanted: dict[str, object]) -> None:
    plan = tools.plan(body(response_format=wanted), speaks_openai=True)
    assert plan.extra["response_format"] == wanted
    assert plan.schema is None


def test_a_strict_schema_is_a_constraint_for_any_engine() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "own", "schema": SCHEMA, "strict": True}}
    for speaks_openai in (True, False):
        assert tools.plan(body(response_format=wanted), speaks_openai=speaks_openai).schema == SCHEMA


def test_a_forced_call_goes_before_a_format() -> None:
    plan = tools.plan(
        body(tools=[WEATHER], tool_choice="required", response_format={"type": "json_object"}), speaks_openai=False
    )
    assert plan.schema == WEATHER["function"]["parameters"]
