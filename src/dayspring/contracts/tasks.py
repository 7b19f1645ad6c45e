"""What can be asked of a model: plain values that cross process borders as msgpack (`contracts.wire`).

A task says what to do, never who asked or what it costs. Fields follow OpenAI's names where OpenAI has one.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = ["ChatTask", "CompletionTask", "EmbeddingTask", "RerankTask", "Sampling", "Task", "without_pictures"]


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are drawn. None leaves the model's own default."""

    max_tokens: int | None = None
    """Most output tokens for each choice; None: what is left of the context."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    """Same seed, same task, same model: same text. Choice i of n uses seed + i."""
    stop: tuple[str, ...] = ()
    logit_bias: dict[str, float] = {}
    top_logprobs: int | None = None
    """None: no log-probabilities. 0: those of the chosen tokens. k: and the k likeliest beside each."""


class ChatTask(msgspec.Struct, frozen=True, omit_defaults=True, tag="chat"):
    """Continue a conversation. Events: TextDelta, ToolCallDelta, ChoiceEnd for each choice, then Usage."""

    messages: tuple[dict[str, Any], ...]
    """OpenAI's message objects, already validated. A picture is a `data:` URL of PNG, JPEG, WebP or GIF whose header
    was read and bounded (`core.pictures`); no engine ever fetches one."""
    sampling: Sampling = Sampling()
    n: int = 1
    tools: tuple[dict[str, Any], ...] = ()
    """OpenAI's tool objects. The model may call them (`tool_choice` auto); a forced call comes as `schema`."""
    parallel_tool_calls: bool = True
    schema: dict[str, Any] | None = None
    """The whole answer must be one JSON value valid against this JSON Schema (draft 2020-12)."""
    reasoning_effort: str | None = None
    stream: bool = True
    """A hint: False when nobody reads deltas before the end, so an engine may send one."""
    extra: dict[str, Any] = {}
    """Fields of the request this platform does not read, for engines that pass them on."""
    prompt_limit: int | None = None
    """Input tokens the reservation covers. An engine that finds more must stop with PromptOverLimit before working."""
    cache_scope: str = ""
    """Whose prompts' key-value memory may be reused: a prefix is shared only between tasks of one scope."""
    adapter: str = ""
    """Id of one of the model's adapters; empty: the model itself."""


class CompletionTask(msgspec.Struct, frozen=True, omit_defaults=True, tag="completion"):
    """Continue raw text. Events as for ChatTask; choice index = prompt index * n + i."""

    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling = Sampling()
    n: int = 1
    echo: bool = False
    stream: bool = True
    extra: dict[str, Any] = {}
    prompt_limit: int | None = None
    cache_scope: str = ""
    adapter: str = ""


class EmbeddingTask(msgspec.Struct, frozen=True, omit_defaults=True, tag="embedding"):
    """One vector for each input, in order. Events: Embedding for each, then Usage."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    """Keep the first so many and renormalise; an engine refuses what its model was not trained for."""
    purpose: Literal["", "query", "document"] = ""
    queries: int = 0
    """So many inputs, the first ones, are queries and the others documents; for one `purpose` of all it is 0."""
    extra: dict[str, Any] = {}
    prompt_limit: int | None = None
    adapter: str = ""


class RerankTask(msgspec.Struct, frozen=True, omit_defaults=True, tag="rerank"):
    """How well each document answers the query. Events: Rerank for each document, in order, then Usage."""

    query: str
    documents: tuple[str, ...]
    extra: dict[str, Any] = {}
    prompt_limit: int | None = None
    adapter: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a model reads: the query with each document."""
        return tuple(f"{self.query}\n{document}" for document in self.documents)


Task = ChatTask | CompletionTask | EmbeddingTask | RerankTask


def without_pictures(messages: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], int]:
    """The messages without their pictures, and how many there were; the messages themselves where there were none."""
    pictures, kept = 0, list[dict[str, Any]]()
    for message in messages:
        content = message.get("content")
        if isinstance(content, list | tuple) and any(part.get("type") == "image_url" for part in content):
            texts = [part for part in content if part.get("type") != "image_url"]
            pictures += len(content) - len(texts)
            kept.append({**message, "content": texts})
        else:
            kept.append(message)
    return (kept, pictures) if pictures else (messages, 0)
