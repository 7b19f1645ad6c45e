"""From a body of /v1/messages to the chat it asks for, spelled as OpenAI's chat body.

What holds: every field reaches the chat, is a hint that changes no answer (`cache_control`, `service_tier`), or is
refused by its name. Thoughts of earlier turns are accepted and not handed to the model, whose template takes none; a
tool's result that is an error is handed on as text that begins with `Error: `, since chats have no mark for it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from pydantic import ValidationError

from dayspring.chat.bodies import ChatCompletionBody
from dayspring.chat.messages.bodies import InputBlock, MessageBody, MessageCountBody, MessageTool, MessageToolChoice
from dayspring.chat.reading import check_numbers
from dayspring.core.errors import DayspringError, Malformed, UnsupportedParameter, rebuild

__all__ = ["chat_body", "in_words_of_messages"]

_HINTS = ("cache_control",)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}

_WORDS = (
    (re.compile(r"\bmax_completion_tokens\b"), "max_tokens"),
    (re.compile(r"\bresponse_format(\.json_schema)?\b"), "output_config.format"),
    (re.compile(r"\breasoning_effort\b"), "output_config.effort"),
    (re.compile(r"'stop'"), "'stop_sequences'"),
)


@contextmanager
def in_words_of_messages() -> Iterator[None]:
    """Says errors of the chat below in the words of this body."""
    try:
        yield
    except DayspringError as error:
        message, param = error.message, error.param
        for old, new in _WORDS:
            message = old.sub(new, message)
            param = old.sub(new, param) if param is not None else None
        raise rebuild(error.code, message, param, error.retry_after_s) from None


def chat_body(body: MessageCountBody, *, thinks_unasked: bool) -> ChatCompletionBody:
    """The chat that is asked for. `thinks_unasked`: the model is one of ours, which is told when not to think.

    Raises Malformed, UnsupportedParameter.
    """
    for field in body.model_extra or {}:
        raise UnsupportedParameter(field[:100], "there is no such option here. Leave it out")
    messages = _system(body.system)
    for place, turn in enumerate(body.messages):
        messages += _turn(turn.role, turn.content, f"messages.{place}")
    tools = [_tool(tool, f"tools.{place}") for place, tool in enumerate(body.tools or ())]
    fields: dict[str, Any] = {"model": body.model, "messages": messages, "tools": tools or None}
    fields |= _choice(body.tool_choice) | _thinking(body, thinks_unasked=thinks_unasked)
    if isinstance(body, MessageBody):
        for extra in (body.metadata.model_extra or {}) if body.metadata is not None else {}:
            raise UnsupportedParameter(f"metadata.{extra[:100]}", "leave it out")
        fields |= {
            "max_completion_tokens": body.max_tokens,
            "stop": body.stop_sequences or None,
            "stream": body.stream,
            "temperature": body.temperature,
            "top_k": body.top_k,
            "top_p": body.top_p,
            "user": body.metadata.user_id if body.metadata is not None else None,
        }
    try:
        return ChatCompletionBody.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Malformed(f"{fault['msg']}. Correct it and send it again.", location=where) from None


def _system(system: str | list[InputBlock] | None) -> list[dict[str, Any]]:
    if system is None:
        return []
    if not isinstance(system, str):
        for number, text in enumerate(system):
            if text.type != "text" or text.text is None:
                raise Malformed("it is a list of texts.", location=f"system.{number}")
        system = "\n\n".join(block.text or "" for block in system)
    return [{"role": "system", "content": system}]


def _turn(role: str, content: str | list[InputBlock], where: str) -> list[dict[str, Any]]:
    """One turn as chat messages: the results of calls are messages of their own, before what else was said."""
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for place, block in enumerate(content):
        spot = f"{where}.content.{place}"
        _check_hints(block, spot)
        if block.type == "tool_result" and role == "user":
            results.append(_result(block, spot))
        elif block.type == "tool_use" and role == "assistant":
            calls.append(_call(block, spot))
        elif not (block.type in ("thinking", "redacted_thinking") and role == "assistant"):
            parts.append(_part(block, spot))
    message: dict[str, Any] = {"role": role, "content": _plain(parts)}
    if calls:
        message |= {"tool_calls": calls, "content": message["content"] or None}
    return [*results, message] if parts or calls or not results else results


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return "".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else parts


def _check_hints(block: InputBlock, where: str) -> None:
    known = {"cache_control", "signature", "thinking", "data", "citations", "caller", "title", "context"}
    for extra in block.model_extra or {}:
        if extra not in known:
            raise UnsupportedParameter(f"{where}.{extra[:100]}", "leave it out")
    if (block.model_extra or {}).get("citations"):
        raise UnsupportedParameter(f"{where}.citations", "no sources are cited here. Leave it out")


def _part(block: InputBlock, where: str) -> dict[str, Any]:
    if block.type == "text" and block.text is not None:
        return {"type": "text", "text": block.text}
    if block.type != "image" or block.source is None:
        raise UnsupportedParameter(f"{where}.type", f"no model here understands a {block.type[:64]!r} in this place")
    source = block.source
    kind, media, data = source.get("type"), source.get("media_type"), source.get("data")
    if kind == "base64" and isinstance(media, str) and isinstance(data, str):
        return {"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}}
    if kind == "url" and isinstance(source.get("url"), str):
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    raise UnsupportedParameter(f"{where}.source", "send the picture as base64 or by its url")


def _call(block: InputBlock, where: str) -> dict[str, Any]:
    if block.id is None or block.name is None or block.input is None:
        raise Malformed("a call needs its id, its name and its input.", location=where)
    check_numbers(f"{where}.input", block.input)
    arguments = orjson.dumps(block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _result(block: InputBlock, where: str) -> dict[str, Any]:
    if block.tool_use_id is None:
        raise Malformed("a result needs the id of its call.", location=f"{where}.tool_use_id")
    given = block.content or ""
    content = given if isinstance(given, str) else _plain([_part(part, f"{where}.content") for part in given])
    if block.is_error and isinstance(content, str):
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _tool(tool: MessageTool, where: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise UnsupportedParameter(f"{where}.type", f"no {tool.type[:64]!r} runs here. Offer tools of your own")
    for extra in tool.model_extra or {}:
        if extra not in _HINTS:
            raise UnsupportedParameter(f"{where}.{extra[:100]}", "leave it out")
    if tool.input_schema is None:
        raise Malformed("a tool needs its input_schema.", location=f"{where}.input_schema")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: MessageToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    fields: dict[str, Any] = {"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {}
    if choice.type != "tool":
        return fields | {"tool_choice": _CHOICES[choice.type]}
    if choice.name is None:
        raise Malformed("it needs the tool's name.", location="tool_choice.name")
    return fields | {"tool_choice": {"type": "function", "function": {"name": choice.name}}}


def _thinking(body: MessageCountBody, *, thinks_unasked: bool) -> dict[str, Any]:
    """How much to think, and the format. Without a word on it, a model of ours does not think, as Anthropic has it."""
    config = body.output_config
    effort = config.effort if config is not None else None
    kind = body.thinking.type if body.thinking is not None else "disabled"
    if kind not in ("adaptive", "disabled"):
        budget = "a budget of thoughts cannot be held here. Send {'type': 'adaptive'}, and output_config.effort"
        raise UnsupportedParameter("thinking.type", budget)
    if kind == "disabled":
        effort = "none" if thinks_unasked else None
    fields: dict[str, Any] = {} if effort is None else {"reasoning_effort": effort}
    if config is not None and config.format is not None:
        schema = {"name": "answer", "schema": config.format.schema_, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields
