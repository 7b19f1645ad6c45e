"""The older text-completion objects: whole answers and chunks, with their own form of log-probabilities."""

from typing import Any

from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, TokenLogprob

__all__ = ["TextAnswer", "text_chunk"]


class TextAnswer:
    """Collects one choice."""

    def __init__(self) -> None:
        self.text = ""
        self.logprobs: dict[str, list[Any]] | None = None
        self.reason = "stop"

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            if event.logprobs is not None:
                self.logprobs = _extended(self.logprobs, event.logprobs, len(self.text))
            self.text += event.text
        elif isinstance(event, ChoiceEnd):
            self.reason = event.reason

    def choice(self, index: int) -> dict[str, Any]:
        return {"index": index, "text": self.text, "logprobs": self.logprobs, "finish_reason": self.reason}


def text_chunk(head: dict[str, Any], event: TextDelta | ChoiceEnd, offset: int = 0) -> dict[str, Any]:
    """One chunk of a stream; `head` holds id, created, model; `offset` is the characters of the choice before it."""
    logprobs = None
    if isinstance(event, TextDelta) and event.logprobs is not None:
        logprobs = _extended(None, event.logprobs, offset)
    choice = {
        "index": event.index,
        "text": "" if isinstance(event, ChoiceEnd) else event.text,
        "logprobs": logprobs,
        "finish_reason": event.reason if isinstance(event, ChoiceEnd) else None,
    }
    return {**head, "choices": [choice]}


def _extended(
    before: dict[str, list[Any]] | None, logprobs: tuple[TokenLogprob, ...], offset: int
) -> dict[str, list[Any]]:
    """OpenAI's four parallel lists; `offset` is the number of characters before the first token."""
    lists = before or {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for each in logprobs:
        lists["tokens"].append(each.token)
        lists["token_logprobs"].append(each.logprob)
        lists["top_logprobs"].append({other.token: other.logprob for other in each.top})
        lists["text_offset"].append(offset)
        offset += len(each.token)
    return lists
