"""What one attempt at a task has brought so far: the counts that a stream cut short is paid by."""

from dayspring.contracts.events import Event, Started, TextDelta, ToolCallDelta, Usage

__all__ = ["Produced"]


class Produced:
    """Fresh for each attempt, so that what a dead worker made is not charged with what its successor makes."""

    __slots__ = ("busy_ns", "first_ns", "output_tokens", "reasoning_tokens", "started", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.started: Started | None = None
        self.output_tokens = 0
        self.reasoning_tokens = 0
        """Output tokens that were thought, not said; part of the output tokens."""
        self.first_ns: int | None = None
        """When the first output came, ns since 1970."""
        self.busy_ns = 0
        """Device time of this attempt, in all once it has ended."""

    def count(self, event: Event) -> bool:
        """Counts the event; whether it is for the client."""
        if isinstance(event, TextDelta | ToolCallDelta):
            self.output_tokens += event.tokens
            if isinstance(event, TextDelta) and event.kind == "reasoning":
                self.reasoning_tokens += event.tokens
        elif isinstance(event, Usage):
            self.usage = event
            return False
        elif isinstance(event, Started):
            self.started = event
            return False
        return True

    @property
    def nothing(self) -> bool:
        """Whether nothing was even begun."""
        usage = self.used()
        return not (usage.input_tokens or usage.output_tokens or self.started or self.usage)

    def used(self) -> Usage:
        """What was used: the engine's own count, or for a stream cut short what had come."""
        if self.usage is not None:
            return self.usage
        started = self.started or Started()
        return Usage(started.input_tokens, self.output_tokens, started.cached_tokens, upstream=started.upstream)
