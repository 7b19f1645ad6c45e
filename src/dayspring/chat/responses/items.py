"""Items of a conversation: what a caller may put in, as it is stored, and as OpenAI's chat messages.

What holds: an item leaves this module complete (an id, a type, a status), so that it can be stored and listed as it
is; one of a kind that no model here understands is refused with its place. Thoughts (`reasoning`) of earlier turns are
accepted and stored, and not handed to the model, whose template takes none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from dayspring.chat.responses.bodies import InputItem, InputPart
from dayspring.core.errors import Malformed, UnsupportedParameter
from dayspring.core.ids import new_id

__all__ = ["REFERENCE", "as_messages", "read_items"]

REFERENCE = "item_reference"

Stored = dict[str, Any]

_PREFIX = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def read_items(given: str | list[InputItem] | None) -> list[Stored]:
    """The items as they are stored; a reference stays one. Raises Malformed, UnsupportedParameter."""
    if given is None:
        return []
    if isinstance(given, str):
        given = [InputItem(role="user", content=given)]
    return [_stored(item, f"input.{place}") for place, item in enumerate(given)]


def _stored(item: InputItem, where: str) -> Stored:
    kind = item.type or ("message" if item.role is not None else REFERENCE)
    if kind == REFERENCE:
        if item.id is None:
            raise Malformed("a reference needs the id of an item.", location=f"{where}.id")
        return {"type": REFERENCE, "id": item.id}
    if kind not in _PREFIX:
        raise UnsupportedParameter(f"{where}.type", f"no model here understands an item of type {kind[:64]!r}")
    made: Stored = {"id": item.id or new_id(_PREFIX[kind]), "type": kind, "status": "completed"}
    if kind == "message":
        return made | _message(item, where)
    if kind == "reasoning":
        return made | _reasoning(item, where)
    if item.call_id is None:
        raise Malformed("it needs the call's id.", location=f"{where}.call_id")
    made["call_id"] = item.call_id
    if kind == "function_call":
        if item.name is None or item.arguments is None:
            raise Malformed("a call needs its name and its arguments.", location=f"{where}.name")
        return made | {"name": item.name, "arguments": item.arguments}
    if item.output is None:
        raise Malformed("an answer to a call needs its output.", location=f"{where}.output")
    output = item.output
    made["output"] = output if isinstance(output, str) else [_part(part, f"{where}.output") for part in output]
    return made


def _message(item: InputItem, where: str) -> Stored:
    if item.role is None:
        raise Malformed("a message needs a role.", location=f"{where}.role")
    if item.content is None:
        raise Malformed("a message needs content.", location=f"{where}.content")
    said = item.role == "assistant"
    kind = "output_text" if said else "input_text"
    parts = [InputPart(type="text", text=item.content)] if isinstance(item.content, str) else item.content
    return {"role": item.role, "content": [_part(part, f"{where}.content", kind) for part in parts]}


def _reasoning(item: InputItem, where: str) -> Stored:
    extra = item.model_extra or {}
    content = item.content if isinstance(item.content, list) else []
    made: Stored = {"summary": extra.get("summary") or []}
    if not isinstance(made["summary"], list):
        raise Malformed("it is a list.", location=f"{where}.summary")
    if content:
        made["content"] = [_part(part, f"{where}.content", "reasoning_text") for part in content]
    return made


def _part(part: InputPart, where: str, text_kind: str = "input_text") -> Stored:
    """A part as it is stored. A text part of any spelling takes the spelling of its place."""
    extra = part.model_extra or {}
    if part.type == "refusal":
        return {"type": "refusal", "refusal": part.refusal or ""}
    if part.type in ("input_text", "output_text", "text", "reasoning_text"):
        if part.text is None:
            raise Malformed("a text part needs its text.", location=f"{where}.text")
        made: Stored = {"type": text_kind, "text": part.text}
        return made | {"annotations": [], "logprobs": []} if text_kind == "output_text" else made
    if part.type == "input_image":
        if not isinstance(extra.get("image_url"), str):
            raise UnsupportedParameter(f"{where}.file_id", "send the picture itself as image_url")
        return {"type": "input_image", "detail": extra.get("detail") or "auto", "image_url": extra["image_url"]}
    return {"type": part.type, **extra}


def as_messages(items: Iterable[Stored], instructions: str | None) -> list[dict[str, Any]]:
    """OpenAI's chat messages. What one speaker said in a row (words, then calls) is one message."""
    messages: list[dict[str, Any]] = []
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        kind = item["type"]
        if kind == "message" and item["role"] != "assistant":
            messages.append({"role": item["role"], "content": _content(item["content"])})
        elif kind == "message":
            speaker = _speaker(messages)
            said, refused = _joined(item["content"], "text"), _joined(item["content"], "refusal")
            speaker["content"] = (speaker.get("content") or "") + (said or refused)
        elif kind == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            _speaker(messages).setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            output = item["output"]
            answer = output if isinstance(output, str) else _content(output)
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": answer})
    return messages


def _speaker(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message under way, or a new one."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _joined(parts: Sequence[Stored], field: str) -> str:
    return "".join(part.get(field) or "" for part in parts)


def _content(parts: Sequence[Stored]) -> str | list[dict[str, Any]]:
    """Chat's content: plain text where there is nothing else."""
    if all(part["type"] in ("input_text", "output_text") for part in parts):
        return _joined(parts, "text")
    made: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] in ("input_text", "output_text"):
            made.append({"type": "text", "text": part["text"]})
        elif part["type"] == "input_image":
            made.append({"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}})
        elif part["type"] == "input_audio":
            made.append(dict(part))
        else:
            file = {name: value for name, value in part.items() if name != "type"}
            made.append({"type": "file", "file": file})
    return made
