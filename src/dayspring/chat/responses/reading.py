"""From a body of /v1/responses to the chat it asks for: what is meant, spelled as OpenAI's chat body.

What holds: every field reaches the chat, is a note of the caller's, or is refused by its name. An error found further
on, in the words of the chat body, is said again in the words of this one (`in_words_of_responses`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from dayspring.chat.bodies import ChatCompletionBody
from dayspring.chat.reading import check_numbers
from dayspring.chat.responses.bodies import (
    AllowedToolsChoice,
    HostedToolChoice,
    NamedFunctionChoice,
    ResponseBody,
    ResponseTool,
    TokenCountBody,
)
from dayspring.chat.responses.items import as_messages
from dayspring.core.errors import DayspringError, Malformed, UnsupportedParameter, rebuild

__all__ = ["chat_body", "check", "in_words_of_responses", "wants_logprobs"]

_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = frozenset({_LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url"})
"""Thoughts are shown as they are and pictures are listed as they came, so there is nothing to add for the last two."""

_UNSUPPORTED = {
    "conversation": "there are no conversation objects here. Go on from a response with previous_response_id",
    "prompt": "no prompt templates are kept here. Send instructions and input",
    "personality": "this model has none to choose. Write it into instructions",
}

_WORDS = (
    (re.compile(r"\bmessages(\.\d+)?(\.[a-z_]+)*\b(?=')"), "input"),
    (re.compile(r"\bresponse_format(\.json_schema)?\b"), "text.format"),
    (re.compile(r"\bmax_(completion_)?tokens\b"), "max_output_tokens"),
    (re.compile(r"\breasoning_effort\b"), "reasoning.effort"),
    (re.compile(r"'verbosity'"), "'text.verbosity'"),
)
_PARAMS = (
    (re.compile(r"^messages.*$"), "input"),
    (re.compile(r"^response_format(\.json_schema)?"), "text.format"),
    (re.compile(r"^max_(completion_)?tokens$"), "max_output_tokens"),
    (re.compile(r"^reasoning_effort$"), "reasoning.effort"),
    (re.compile(r"^verbosity$"), "text.verbosity"),
)


@contextmanager
def in_words_of_responses() -> Iterator[None]:
    """Says errors of the chat below in the words of this body."""
    try:
        yield
    except DayspringError as error:
        raise _renamed(error) from None


def _renamed(error: DayspringError) -> DayspringError:
    message, param = error.message, error.param
    for old, new in _WORDS:
        message = old.sub(new, message)
    for old, new in _PARAMS if param is not None else ():
        param = old.sub(new, param or "")
    return error if (message, param) == (error.message, error.param) else rebuild(
        error.code, message, param, error.retry_after_s
    )  # fmt: skip


def check(body: TokenCountBody) -> None:
    """Refuses what nothing here can honour, whatever the model. Raises Malformed, UnsupportedParameter."""
    for field in body.model_extra or {}:
        raise UnsupportedParameter(field[:100], "there is no such option here. Leave it out")
    repeated = (("tools", body.tools), ("text.format", body.text), ("tool_choice", body.tool_choice))
    for field, given in (*repeated, ("input", body.input)):  # the object repeats these, and the items are stored
        check_numbers(field, given)
    for field, reason in _UNSUPPORTED.items():
        if getattr(body, field, None) is not None:
            raise UnsupportedParameter(field, reason)
    for place, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            raise UnsupportedParameter(f"tools.{place}.type", f"no {tool.type[:64]!r} runs here. Use functions")
        if tool.name is None:
            raise Malformed("a function needs a name.", location=f"tools.{place}.name")
        for extra in tool.model_extra or {}:
            raise UnsupportedParameter(f"tools.{place}.{extra[:100]}", "leave it out")
    if isinstance(body.tool_choice, HostedToolChoice):
        raise UnsupportedParameter("tool_choice", f"no {body.tool_choice.type[:64]!r} runs here. Name a function")
    thinking = body.reasoning
    if thinking is not None:
        for field in ("summary", "generate_summary"):
            if getattr(thinking, field) not in (None, "auto"):
                raise UnsupportedParameter(f"reasoning.{field}", "thoughts are shown as they are. Leave it out")
        for extra in thinking.model_extra or {}:
            raise UnsupportedParameter(f"reasoning.{extra[:100]}", "leave it out")
    if isinstance(body, ResponseBody):
        _check_creation(body)


def _check_creation(body: ResponseBody) -> None:
    if body.input is None and body.previous_response_id is None:
        raise Malformed("there is nothing to answer. Send a text or a list of items.", location="input")
    for place, included in enumerate(body.include or ()):
        if included not in _INCLUDABLE:
            raise UnsupportedParameter(f"include.{place}", f"there is no {included[:100]!r} here. Leave it out")
    if body.top_logprobs and not wants_logprobs(body):
        raise Malformed(f"top_logprobs needs include: [{_LOGPROBS!r}].", location="top_logprobs")
    if body.background and not body.keeps:
        raise Malformed("what runs in the background is stored. Leave out store: false.", location="background")
    options = body.stream_options
    if options is not None and not body.stream:
        raise Malformed("stream_options needs stream: true.", location="stream_options")
    if options is not None and options.include_obfuscation:
        raise UnsupportedParameter("stream_options.include_obfuscation", "no padding is sent here. Leave it out")


def wants_logprobs(body: TokenCountBody) -> bool:
    return isinstance(body, ResponseBody) and _LOGPROBS in (body.include or ())


def chat_body(body: TokenCountBody, items: list[dict[str, Any]]) -> ChatCompletionBody:
    """The chat that is asked for; `items` are the whole conversation. Raises Malformed, UnsupportedParameter."""
    tools, choice = _tools(body)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": as_messages(items, body.instructions),
        "tools": tools or None,
        "tool_choice": choice,
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _format(body),
        "reasoning_effort": body.reasoning.effort if body.reasoning is not None else None,
        "verbosity": body.text.verbosity if body.text is not None else None,
    }
    if isinstance(body, ResponseBody):
        fields |= {
            "max_completion_tokens": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "logprobs": True if wants_logprobs(body) else None,
            "top_logprobs": body.top_logprobs if wants_logprobs(body) else None,
            "stream": body.stream or body.background,
            "user": body.user,
            "safety_identifier": body.safety_identifier,
            "prompt_cache_key": body.prompt_cache_key,
            "service_tier": body.service_tier,
            "metadata": body.metadata,
        }
    try:
        return ChatCompletionBody.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise Malformed(f"{fault['msg']}. Correct it and send it again.", location=place) from None


def _tools(body: TokenCountBody) -> tuple[list[dict[str, Any]], str | dict[str, Any] | None]:
    """Chat's tools and choice. A choice among allowed tools offers those alone."""
    offered, choice = body.tools or [], body.tool_choice
    if isinstance(choice, AllowedToolsChoice):
        names = {tool.get("name") for tool in choice.tools}
        unknown = names - {tool.name for tool in offered}
        if unknown:
            raise Malformed("a tool that is allowed is not among tools.", location="tool_choice.tools")
        return [_tool(tool) for tool in offered if tool.name in names], choice.mode
    if isinstance(choice, NamedFunctionChoice):
        return [_tool(tool) for tool in offered], {"type": "function", "function": {"name": choice.name}}
    return [_tool(tool) for tool in offered], choice if isinstance(choice, str) else None


def _tool(tool: ResponseTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _format(body: TokenCountBody) -> dict[str, Any] | None:
    wanted = body.text.format if body.text is not None else None
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    if wanted.name is None or wanted.schema_ is None:
        raise Malformed("json_schema needs a name and a schema.", location="text.format")
    inner = wanted.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
    return {"type": "json_schema", "json_schema": inner}
