"""From a body to a task: defaults filled in, contradictions refused, what the engine cannot honour named.

What holds: every field of the body either reaches the task, is a note for the operator (`user`, `metadata`), or is
refused by name. Nothing is dropped in silence.
"""

from typing import Any

import orjson
from pydantic import BaseModel

from dayspring.chat import tools
from dayspring.chat.bodies import (
    ChatCompletionBody,
    CompletionBody,
    Drawn,
    EmbeddingBody,
    ImagePart,
    Message,
    OtherPart,
    RefusalPart,
    TextPart,
)
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, Sampling
from dayspring.core.errors import Malformed, UnsupportedParameter

__all__ = ["chat_task", "check_numbers", "completion_task", "embedding_task", "sampling"]

_NOTES = frozenset({"user", "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store"})
"""Fields that tell a service about the caller; our own engines have no use for them."""

_CHAT_UNSUPPORTED = {
    "audio": "this model speaks no sound. Leave it out",
    "prediction": "leave it out",
    "verbosity": "this model cannot be told how much to say. Leave it out",
    "web_search_options": "no web search runs here. Leave it out",
    "functions": "it is retired. Use 'tools'",
    "function_call": "it is retired. Use 'tool_choice'",
}
_MAX_INPUTS = 2048
_MAX_CHOICES = 1024
"""Answers one completions body may ask for: each has its own slot and buffers while it is made."""


def check_numbers(field: str, given: Any) -> None:
    """Raises Malformed for a number that does not fit the frames and objects it is carried in: 64 bits."""
    try:
        orjson.dumps(given, default=BaseModel.model_dump)
    except TypeError:  # orjson's own error is one
        raise Malformed("a number in it has more than 64 bits. Correct it.", location=field) from None


def sampling(body: Drawn, *, max_tokens: int | None, top_logprobs: int | None) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        repeat_penalty=body.repeat_penalty,
        seed=body.seed,
        stop=stop,
        logit_bias=body.logit_bias or {},
        top_logprobs=top_logprobs,
    )


def chat_task(body: ChatCompletionBody, *, speaks_openai: bool) -> ChatTask:
    """The task of a chat body. Raises Malformed or UnsupportedParameter."""
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise Malformed("max_tokens and max_completion_tokens say the same. Send one.", location="max_tokens")
    _check_stream(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise Malformed("top_logprobs needs logprobs: true.", location="top_logprobs")
    _check_messages(body.messages, speaks_openai=speaks_openai)
    if not speaks_openai:
        _refuse_unsupported(body)
    plan = tools.plan(body, speaks_openai=speaks_openai)
    messages = tuple(message.model_dump(exclude_unset=True, mode="json") for message in body.messages)
    parts = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    for field, given in (("messages", parts), ("tools", plan.tools), ("response_format", plan.schema)):
        if given:
            check_numbers(field, given)
    return ChatTask(
        messages=(*plan.preface, *messages),
        sampling=sampling(
            body,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        n=body.n or 1,
        tools=plan.tools,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        schema=plan.schema,
        reasoning_effort=body.reasoning_effort,
        stream=bool(body.stream),
        extra=_extra(body, plan.extra) if speaks_openai else {},
    )


def completion_task(body: CompletionBody, *, speaks_openai: bool) -> CompletionTask:
    """The task of a completions body. Raises Malformed or UnsupportedParameter."""
    _check_stream(body)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise UnsupportedParameter("best_of", "ask for n choices and pick among them")
    if not speaks_openai and body.suffix is not None:
        raise UnsupportedParameter("suffix", "this model does not fill in. Leave it out")
    if not speaks_openai:
        _refuse_extra(body)
    prompts = _inputs(body.prompt, "prompt")
    if len(prompts) * (body.n or 1) > _MAX_CHOICES:
        raise Malformed(f"at most {_MAX_CHOICES} answers at a time. Split the request.", location="prompt")
    max_tokens = 16 if body.max_tokens is None else body.max_tokens
    if not max_tokens and not body.echo:
        raise Malformed("an answer of no tokens says nothing. Ask for at least one.", location="max_tokens")
    return CompletionTask(
        prompts=prompts,
        sampling=sampling(body, max_tokens=max_tokens, top_logprobs=body.logprobs),
        n=body.n or 1,
        echo=bool(body.echo),
        stream=bool(body.stream),
        extra=_extra(body, {"suffix": body.suffix}) if speaks_openai else {},
    )


def embedding_task(body: EmbeddingBody, *, speaks_openai: bool) -> EmbeddingTask:
    """The task of an embeddings body. Raises Malformed or UnsupportedParameter."""
    if not speaks_openai:
        _refuse_extra(body)
    return EmbeddingTask(
        inputs=_inputs(body.input, "input"),
        dimensions=body.dimensions,
        extra=_extra(body, {}) if speaks_openai else {},
    )


def _inputs(value: Any, field: str) -> tuple[str | tuple[int, ...], ...]:
    """OpenAI's four spellings (text, texts, tokens, lists of tokens) as one."""
    if isinstance(value, str):
        inputs: tuple[str | tuple[int, ...], ...] = (value,)
    elif value and isinstance(value[0], int):
        inputs = (tuple(value),)
    else:
        inputs = tuple(each if isinstance(each, str) else tuple(each) for each in value)
    if not inputs or any(len(each) == 0 for each in inputs):
        raise Malformed("there is nothing in it. Send at least one character or token.", location=field)
    if len(inputs) > _MAX_INPUTS:
        raise Malformed(f"at most {_MAX_INPUTS} at a time. Split the request.", location=field)
    return inputs


def _check_stream(body: Drawn) -> None:
    if body.stream_options is not None and not body.stream:
        raise Malformed("stream_options needs stream: true.", location="stream_options")


def _check_messages(messages: list[Message], *, speaks_openai: bool) -> None:
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if message.content is None and not message.tool_calls and message.refusal is None:
            raise Malformed("a message needs content or tool calls.", location=f"{where}.content")
        if message.role == "tool" and not message.tool_call_id:
            raise Malformed("a tool message needs the id of the call it answers.", location=f"{where}.tool_call_id")
        if speaks_openai:
            continue
        for extra in message.model_extra or {}:
            raise UnsupportedParameter(f"{where}.{extra[:100]}", "leave it out for this model")
        if isinstance(message.content, list):
            for part in message.content:
                _check_part(part, message.role, f"{where}.content")


def _check_part(part: TextPart | RefusalPart | ImagePart | OtherPart, role: str, where: str) -> None:
    """Whether the model reads pictures at all is asked in dispatch, which has the model."""
    if isinstance(part, OtherPart):
        raise UnsupportedParameter(where, f"this model reads no {part.type!r}. Send text")
    if isinstance(part, ImagePart):
        if role not in ("user", "tool"):
            raise UnsupportedParameter(where, f"a {role} message shows no picture. Put it into a user message")
        for extra in (*(part.model_extra or {}), *(part.image_url.model_extra or {})):
            raise UnsupportedParameter(f"{where}.image_url.{extra[:100]}", "leave it out for this model")


def _refuse_unsupported(body: ChatCompletionBody) -> None:
    for field, reason in _CHAT_UNSUPPORTED.items():
        if getattr(body, field) is not None:
            raise UnsupportedParameter(field, reason)
    if body.modalities is not None and set(body.modalities) != {"text"}:
        raise UnsupportedParameter("modalities", "this model answers in text only")
    _refuse_extra(body)


def _refuse_extra(body: BaseModel) -> None:
    for field in body.model_extra or {}:
        raise UnsupportedParameter(field[:100], "this model has no such option. Leave it out")


def _extra(body: BaseModel, more: dict[str, Any]) -> dict[str, Any]:
    """What a service behind an upstream should see beside the task's own fields."""
    kept = dict(body.model_extra or {})
    for field in (*_CHAT_UNSUPPORTED, "modalities", *_NOTES - {"metadata", "store"}):
        value = getattr(body, field, None)
        if value is not None:
            kept[field] = value
    kept.update({name: value for name, value in more.items() if value is not None})
    return kept
