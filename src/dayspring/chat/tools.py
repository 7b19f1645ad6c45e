"""Tools and structured answers: what the model is asked for, and how a forced call is read back from its text.

A call the caller forces (`tool_choice` a function, or `required`) is made by our own schema constraint, so any model
that can be constrained makes it: one tool, the text is its arguments; several, the text is
`{"name": ..., "arguments": {...}}` with the name among the tools'. With `auto` the model's own template decides.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import orjson

from dayspring.chat.bodies import ChatCompletionBody, FunctionTool, NamedTool
from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, ToolCallDelta
from dayspring.contracts.models import Model
from dayspring.contracts.registry import engine
from dayspring.core.errors import Malformed
from dayspring.core.ids import new_id

__all__ = ["CallReader", "Plan", "answering_readers", "event_readers", "forced_tool", "plan"]

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"arguments"\s*:\s*')


class Plan(msgspec.Struct, frozen=True):
    """What a chat body's tools and response format come to."""

    tools: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None
    preface: tuple[dict[str, Any], ...] = ()
    """Messages put before the caller's, so that a model constrained to a call knows what the tools are for."""
    extra: dict[str, Any] = {}


def plan(body: ChatCompletionBody, *, speaks_openai: bool) -> Plan:
    """Raises Malformed for a choice of a tool that is not there, or a format without its schema."""
    offered = body.tools or []
    names = [tool.function.name for tool in offered]
    if len(set(names)) != len(names):
        raise Malformed("two tools have the same name. Rename one.", location="tools")
    choice = body.tool_choice
    if choice not in (None, "none") and not offered:
        raise Malformed("tool_choice needs tools.", location="tool_choice")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise Malformed(f"no tool is named {choice.function.name!r}.", location="tool_choice")
    as_sent = tuple(tool.model_dump(exclude_unset=True) for tool in offered)
    schema = _format_schema(body)
    if speaks_openai:
        extra = {"tool_choice": choice.model_dump() if isinstance(choice, NamedTool) else choice}
        wanted = body.response_format
        if wanted is None or (wanted.json_schema is not None and wanted.json_schema.strict):
            return Plan(tools=as_sent, schema=schema, extra=extra)
        # A schema that need not be strict may be one that a service would refuse as strict: it goes as it came.
        extra["response_format"] = wanted.model_dump(exclude_unset=True, by_alias=True)
        return Plan(tools=as_sent, extra=extra)
    forced = forced_tool(body)
    if forced:
        return Plan(schema=_call_schema(forced), preface=(_preface(forced),))
    return Plan(tools=() if choice == "none" else as_sent, schema=schema)


def forced_tool(body: ChatCompletionBody) -> list[FunctionTool]:
    """The tools one of which must be called; empty when the model may answer in words."""
    offered = body.tools or []
    if isinstance(body.tool_choice, NamedTool):
        wanted = body.tool_choice.function.name
        return [tool for tool in offered if tool.function.name == wanted]
    return offered if body.tool_choice == "required" else []


def _format_schema(body: ChatCompletionBody) -> dict[str, Any] | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return _ANY_OBJECT
    if wanted.json_schema is None:
        raise Malformed("response_format json_schema needs json_schema.", location="response_format.json_schema")
    return wanted.json_schema.schema_ if wanted.json_schema.schema_ is not None else _ANY_OBJECT


def _parameters(tool: FunctionTool) -> dict[str, Any]:
    return tool.function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}


def _call_schema(forced: list[FunctionTool]) -> dict[str, Any]:
    if len(forced) == 1:
        return _parameters(forced[0])
    # `$defs` of a tool's parameters are looked up from the root, so each tool's are moved there under its own name.
    definitions: dict[str, Any] = {}
    branches: list[dict[str, Any]] = []
    for tool in forced:
        root = f"#/$defs/{tool.function.name}"
        definitions[tool.function.name] = _rebased(_parameters(tool), root)
        properties = {"name": {"const": tool.function.name}, "arguments": {"$ref": root}}
        branches.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {"anyOf": branches, "$defs": definitions}


def _rebased(schema: Any, root: str) -> Any:
    """The schema with each local reference moved under `root`."""
    if isinstance(schema, list):
        return [_rebased(each, root) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = root + value[1:]
        else:
            moved[key] = _rebased(value, root)
    return moved


def _preface(forced: list[FunctionTool]) -> dict[str, Any]:
    lines = [orjson.dumps(tool.function.model_dump(exclude_none=True)).decode() for tool in forced]
    shape = "its arguments" if len(forced) == 1 else 'an object with its "name" and its "arguments"'
    text = "Call a tool. Answer with one JSON value only: " + shape + ". The tools:\n" + "\n".join(lines)
    return {"role": "system", "content": text}


def event_readers(body: ChatCompletionBody, n: int, *, native: bool) -> Callable[[Event], Any]:
    """A function from each event to those to send: a forced call's text becomes the call."""
    forced: list[FunctionTool] = [] if native else forced_tool(body)
    if not forced:
        return lambda event: (event,)
    each = [CallReader(forced) for _ in range(n)]
    return lambda event: each[getattr(event, "index", 0)].read(event)


def answering_readers(body: ChatCompletionBody, n: int, model: Callable[[], Model]) -> Callable[[Event], Any]:
    """As `event_readers`, for whichever model answers: of a name with fallbacks, the first event tells which."""
    found: list[Callable[[Event], Any]] = []

    def read(event: Event) -> Any:
        if not found:
            found.append(event_readers(body, n, native=engine(model().engine).speaks_openai))
        return found[0](event)

    return read


class CallReader:
    """Turns the constrained text of one choice into the deltas of one tool call, as it streams.

    The constraint guarantees the shape, so no JSON is parsed here: with several tools the head up to `"arguments":` is
    taken off, and the closing brace held back. Of a text cut short nothing is held back.
    """

    def __init__(self, forced: list[FunctionTool]) -> None:
        self.name = forced[0].function.name if len(forced) == 1 else ""
        self._whole = len(forced) == 1
        self._head = ""
        self._held = ""
        self._opened = False

    def read(self, event: Event) -> Iterator[Event]:
        """The events to send in place of `event`."""
        if isinstance(event, TextDelta) and event.kind == "content":
            yield from self._text(event)
        elif isinstance(event, ChoiceEnd):
            if event.reason == "stop":
                event = ChoiceEnd("tool_calls", event.index)
            elif self._held:
                yield ToolCallDelta(arguments=self._held, index=event.index, tokens=0)
            yield event
        else:
            yield event

    def _text(self, event: TextDelta) -> Iterator[Event]:
        text = event.text
        if not self._whole and not self._opened:
            self._head += text
            match = _HEAD.match(self._head)
            if match is None:
                return
            self.name = orjson.loads(f'"{match[1]}"')
            text = self._head[match.end() :]
        if not self._opened:
            self._opened = True
            yield ToolCallDelta(index=event.index, id=new_id("call"), name=self.name, tokens=0)
        if not self._whole:
            text = self._held + text
            cut = len(text.rstrip()) - 1 if text.rstrip().endswith("}") else len(text)
            text, self._held = text[:cut], text[cut:]
        if text:
            yield ToolCallDelta(arguments=text, index=event.index, tokens=event.tokens)
