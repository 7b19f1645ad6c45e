"""The most a task can use, before it runs.

Input: a text has at most as many tokens as UTF-8 bytes, since every vocabulary here falls back to bytes; a picture has
at most what the model's header says; a chat template adds some around each message. The bound is also the task's
`prompt_limit`, which the engine holds to, so a template that adds more cannot charge more: the engine stops before
working, and the reservation is made again.
Output: the maximum asked for, or the context that is left.
"""

import msgspec

from dayspring.contracts.models import UNKNOWN_PICTURE_TOKENS, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, RerankTask, Task, without_pictures
from dayspring.core.money import Unit

__all__ = ["UPSTREAM_OUTPUT_TOKENS", "choices", "estimate", "input_bound", "output_bound", "quantities"]

UPSTREAM_OUTPUT_TOKENS = 32_768
"""Output reserved for a request without a maximum to a service whose context is not known; what it takes beyond that is
the operator's loss. Set the model's context_tokens to have the true bound."""

_TEMPLATE_TOKENS = 256
_MESSAGE_TOKENS = 32


def input_bound(task: Task, model: Model) -> int:
    """Input tokens at most, without asking the model."""
    if isinstance(task, ChatTask):
        # A service behind an upstream reads the schema and the fields handed on, too.
        messages, pictures = without_pictures(task.messages)
        read = [part for part in (messages, task.tools, task.schema, task.extra) if part]
        body = sum(len(msgspec.json.encode(part)) for part in read)
        bound = body + _MESSAGE_TOKENS * len(task.messages) + _TEMPLATE_TOKENS
        bound += pictures * (model.picture_tokens or UNKNOWN_PICTURE_TOKENS)
        return min(bound, model.context_tokens) if model.context_tokens else bound
    texts = task.prompts if isinstance(task, CompletionTask) else task.inputs
    sizes = (len(each.encode()) + 8 if isinstance(each, str) else len(each) + 8 for each in texts)
    if model.context_tokens:
        return sum(min(size, model.context_tokens) for size in sizes)
    return sum(sizes)


def estimate(task: Task, model: Model) -> int:
    """Tokens it will take, roughly and quickly, for limits on rates; they count the true number when it has ended.

    Text has about four bytes a token. An answer without a maximum counts when it is there.
    """
    if isinstance(task, ChatTask):
        messages, pictures = without_pictures(task.messages)
        size, images = len(msgspec.json.encode(messages)), pictures * (model.picture_tokens or UNKNOWN_PICTURE_TOKENS)
    else:
        size, images = input_bound(task, model), 0
    asked = 0 if isinstance(task, EmbeddingTask | RerankTask) else task.sampling.max_tokens or 0
    return 1 + size // 4 + images + asked * choices(task)


def choices(task: Task) -> int:
    """How many answers it asks for; 0 for one that makes no tokens."""
    if isinstance(task, EmbeddingTask | RerankTask):
        return 0
    return task.n * (len(task.prompts) if isinstance(task, CompletionTask) else 1)


def output_bound(task: Task, model: Model, *, input_tokens: int | None = None) -> int:
    """Output tokens at most; `input_tokens` is the exact count where it is known."""
    if isinstance(task, EmbeddingTask | RerankTask):
        return 0
    prompts = len(task.prompts) if isinstance(task, CompletionTask) else 1
    # A prompt has at least one token; without its exact count nothing more may be taken off the context.
    left = model.context_tokens - (input_tokens if input_tokens and prompts == 1 else 1)
    asked = task.sampling.max_tokens
    if asked is None:
        asked = max(left, 0) if model.context_tokens else UPSTREAM_OUTPUT_TOKENS
    elif model.context_tokens:
        asked = min(asked, max(left, 0))
    return asked * choices(task)


def quantities(input_tokens: int, output_tokens: int, *, timeout_s: float) -> dict[Unit, int]:
    """What a price is bounded over: `pricing` takes the dearer of cached and uncached input."""
    return {
        Unit.INPUT_TOKEN: input_tokens,
        Unit.OUTPUT_TOKEN: output_tokens,
        Unit.REQUEST: 1,
        Unit.DEVICE_SECOND: int(timeout_s * 1e9),
    }
