"""Tasks as OpenAI request bodies, and what can be said of their input tokens without the model's tokeniser.

Two figures, for two sides. `input_bound` is for the budget: the UTF-8 bytes of everything the model could read, plus a
margin for the chat template; a tokeniser that works on bytes makes at most one token of each. A picture counts for the
model's `picture_tokens`, sound is not bounded, and what the service takes beyond is the operator's loss.
`input_estimate` is for the bill when a service reports nothing, or a stream is cut before it does: one token for eight
bytes of text, about half of what present tokenisers need for natural text, so that nobody pays for more than was read.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson

from dayspring.contracts.models import UNKNOWN_PICTURE_TOKENS
from dayspring.contracts.tasks import (
    ChatTask,
    CompletionTask,
    EmbeddingTask,
    RerankTask,
    Sampling,
    Task,
    without_pictures,
)
from dayspring.core.errors import Malformed, UnsupportedParameter
from dayspring.engines.upstream.options import Target

__all__ = ["Call", "call_for", "encode_body", "input_bound", "input_estimate"]

_TEMPLATE_TOKENS: Final = 64
"""Tokens that a chat template adds once (default system prompt, generation prompt), beyond the JSON's own bytes."""
_BYTES_PER_ESTIMATED_TOKEN: Final = 8

_OURS: Final = frozenset({"model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens"})
"""What decides how an answer is read or how long it may be: never taken from `extra`."""

_SAMPLING_FIELDS: Final = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repeat_penalty", "seed",
)  # fmt: skip
_STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}
_STREAM_COUNTED: Final = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


class Call(msgspec.Struct, frozen=True):
    """What is the same for every target."""

    task: Task
    path: str
    """Below the target's URL."""
    streaming: bool
    choices: int
    """Choices, or vectors, that a full answer has."""
    running_usage: bool = False
    """Every piece of a stream tells the tokens of its choice so far, which vLLM does when asked."""


def call_for(task: Task, *, running_usage: bool = False) -> Call:
    """How the task is asked. Raises UnsupportedParameter for a field of `extra` that is not the client's to set."""
    for name in task.extra.keys() & _OURS:
        raise UnsupportedParameter(name, "it cannot be passed on to the service behind this model. Leave it out.")
    if isinstance(task, ChatTask):
        return Call(task, "/chat/completions", task.stream, task.n, running_usage)
    if isinstance(task, CompletionTask):
        return Call(task, "/completions", task.stream, task.n * len(task.prompts), running_usage)
    if isinstance(task, RerankTask):
        return Call(task, "/rerank", streaming=False, choices=len(task.documents))
    return Call(task, "/embeddings", streaming=False, choices=len(task.inputs))


def encode_body(call: Call, target: Target) -> bytes:
    """The JSON that this target gets."""
    task = call.task
    body: dict[str, Any] = {**task.extra, "model": target.model}
    if isinstance(task, ChatTask):
        _chat(body, task, target)
    elif isinstance(task, CompletionTask):
        _completion(body, task)
    elif isinstance(task, RerankTask):
        body |= {"query": task.query, "documents": task.documents}
    else:
        body["input"] = task.inputs
        body["encoding_format"] = target.embedding_format
        if task.dimensions is not None:
            body["dimensions"] = task.dimensions
    if call.streaming:
        body.update(_STREAM_COUNTED if call.running_usage else _STREAM)
    return _dump(body)


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Malformed("a number over 64 bits or half a surrogate pair cannot be passed on. Correct it.") from None


def _chat(body: dict[str, Any], task: ChatTask, target: Target) -> None:
    body["messages"] = task.messages
    _sampling(body, task.sampling, target.max_tokens_field)
    if task.sampling.top_logprobs is not None:
        body["logprobs"] = True
        if task.sampling.top_logprobs:
            body["top_logprobs"] = task.sampling.top_logprobs
    if task.n != 1:
        body["n"] = task.n
    if task.tools:
        body["tools"] = task.tools
        if not task.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if task.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": task.schema},
        }
    if task.reasoning_effort is not None:
        body["reasoning_effort"] = task.reasoning_effort


def _completion(body: dict[str, Any], task: CompletionTask) -> None:
    body["prompt"] = task.prompts[0] if len(task.prompts) == 1 else task.prompts
    _sampling(body, task.sampling, "max_tokens")
    if task.sampling.top_logprobs is not None:
        body["logprobs"] = task.sampling.top_logprobs
    if task.n != 1:
        body["n"] = task.n
    if task.echo:
        body["echo"] = True


def _sampling(body: dict[str, Any], sampling: Sampling, max_tokens_field: str) -> None:
    if sampling.max_tokens is not None:
        body[max_tokens_field] = sampling.max_tokens
    for name in _SAMPLING_FIELDS:
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias


def input_bound(task: Task, context_tokens: int = 0, picture_tokens: int = 0) -> int:
    """At least as many tokens as the text of the task can have in any tokeniser that works on bytes.

    `context_tokens`: what the model reads at most, for each input; 0 when it is not known. So `picture_tokens`.
    """
    if isinstance(task, ChatTask):
        messages, pictures = without_pictures(task.messages)
        read = [messages, task.tools or None, task.schema]
        sizes = [_TEMPLATE_TOKENS + sum(len(_dump(part)) for part in read if part is not None)]
        sizes[0] += pictures * (picture_tokens or UNKNOWN_PICTURE_TOKENS)
    else:
        inputs = task.prompts if isinstance(task, CompletionTask) else task.inputs
        # Two more for each input: the marks that a tokeniser puts at its start and end.
        sizes = [2 + (len(_utf8(one)) if isinstance(one, str) else len(one)) for one in inputs]
    return sum(min(size, context_tokens) for size in sizes) if context_tokens else sum(sizes)


def input_estimate(task: Task) -> int:
    """A cautious count of the input tokens: text at eight bytes a token, given tokens as they are."""
    if isinstance(task, EmbeddingTask | CompletionTask | RerankTask):
        inputs = task.prompts if isinstance(task, CompletionTask) else task.inputs
        return sum(_estimate(one) if isinstance(one, str) else len(one) for one in inputs)
    return sum(_estimate(text) for message in task.messages for text in _texts(message.get("content")))


def _texts(content: object) -> Iterable[str]:
    """The text of a message, without pictures and sound."""
    if isinstance(content, str):
        return (content,)
    if isinstance(content, list):
        return tuple(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # half a pair is refused when the body is made


def _estimate(text: str) -> int:
    return -(-len(_utf8(text)) // _BYTES_PER_ESTIMATED_TOKEN)
