"""The request llama.cpp reads, for each choice of a task. What it cannot honour is refused here, by name."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from dayspring.contracts.tasks import ChatTask, CompletionTask, Sampling
from dayspring.core.errors import UnsupportedParameter
from dayspring.engines.llamacpp.grammar import compile_schema

__all__ = ["Choice", "chat_body", "choices", "placed"]

_MAX_SEED = 2**32 - 1
"""Seeds are unsigned 32-bit numbers in the library, and this one means a random one."""


_READ = ("text", "refusal", "image_url")


class Choice(msgspec.Struct, frozen=True):
    """One answer to make."""

    index: int
    prompt: int
    """Which of the task's prompts it answers."""
    body: str
    """JSON, an object."""
    key: str
    """What decides the prompt, spelled so that equal beginnings are equal prompts."""
    max_tokens: int
    """Most output tokens; -1: until the context is full."""


def choices(
    task: ChatTask | CompletionTask, room: Sequence[int] = (), adapters: Sequence[str] = ()
) -> Iterator[Choice]:
    """`room`: tokens of context left after each prompt, where they were counted; `adapters`: ids, as they were loaded.

    Raises UnsupportedParameter for what this engine cannot honour.
    """
    keys = [_chat_key(task)] if isinstance(task, ChatTask) else [_key(prompt) for prompt in task.prompts]
    if isinstance(task, ChatTask):
        common = chat_body(task)
        common |= _sampling(task.sampling) | {"stream": True}
        if task.schema is not None:
            common["grammar"] = compile_schema(task.schema)
        if task.sampling.top_logprobs is not None:
            common |= {"logprobs": True, "top_logprobs": max(1, task.sampling.top_logprobs)}
        bodies = [common]
    else:
        if task.echo and task.sampling.top_logprobs is not None:
            raise UnsupportedParameter("logprobs", "with 'echo' the prompt's own are not available")
        common = _sampling(task.sampling) | {"stream": True}
        if task.sampling.top_logprobs is not None:
            common["logprobs"] = max(1, task.sampling.top_logprobs)
        bodies = [{**common, "prompt": prompt} for prompt in task.prompts]
    asked = task.sampling.max_tokens
    for number, body in enumerate(bodies):
        most = -1 if asked is None else asked
        if room:
            most = room[number] if asked is None else min(asked, room[number])
        body["max_tokens"] = most
        if adapters:
            # Every adapter is named: one that is not would keep the scale it was loaded with.
            scales = [1.0 if name == task.adapter else 0.0 for name in adapters]
            body["lora"] = [{"id": place, "scale": scale} for place, scale in enumerate(scales)]
        for i in range(task.n):
            if task.sampling.seed is not None:
                body["seed"] = (task.sampling.seed + i) % _MAX_SEED
            yield Choice(number * task.n + i, number, msgspec.json.encode(body).decode(), keys[number], most)


def placed(body: str, slot: int, *, reuse: bool) -> str:
    """The body, for this slot of the library's."""
    return f'{body[:-1]},"id_slot":{slot},"cache_prompt":{"true" if reuse else "false"}}}'


def _key(prompt: object) -> str:
    return prompt if isinstance(prompt, str) else msgspec.json.encode(prompt).decode()


def _chat_key(task: ChatTask) -> str:
    """Tools first, as templates have them, then who says what; as little else as can be, for it would look alike."""
    told = [_key(task.tools)] if task.tools else []
    for message in task.messages:
        rest = {name: value for name, value in message.items() if name not in ("role", "content")}
        told += [str(message["role"]), _key(message.get("content") or ""), *([_key(rest)] if rest else [])]
    return "\0".join(told)


def chat_body(task: ChatTask) -> dict[str, Any]:
    """What decides the prompt's tokens."""
    for message in task.messages:
        content = message.get("content")
        if isinstance(content, list | tuple) and any(part.get("type") not in _READ for part in content):
            raise UnsupportedParameter("messages", "this model reads text and pictures only")
    body: dict[str, Any] = {"messages": task.messages}
    if task.tools:
        # A constrained answer and the library's own reading of tool calls exclude each other.
        body |= {"tools": task.tools, "tool_choice": "none" if task.schema is not None else "auto"}
        body["parallel_tool_calls"] = task.parallel_tool_calls
    template: dict[str, Any] = {}
    if task.reasoning_effort is not None:
        template["reasoning_effort"] = task.reasoning_effort
        template["enable_thinking"] = task.reasoning_effort != "none"
    if task.schema is not None:
        template["enable_thinking"] = False  # thoughts would not match the schema
    if template:
        body["chat_template_kwargs"] = template
    return body


def _sampling(sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "return_progress": True,
        "timings_per_token": True,
        "stream_options": {"include_usage": True},
    }
    for name in (
        "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repeat_penalty",
    ):  # fmt: skip
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias
    return body
