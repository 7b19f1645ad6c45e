"""Answers and pieces of answers as events of `contracts.events`.

Tokens of a stream: each delta with something in it counts as one, since a service sends at least one token at a time.
The service's own report, which comes last, decides: what it has beyond the deltas (tokens it hides, several tokens in a
delta) goes on one last delta without text, so that the deltas still add up to the usage. A service that reports less
than the deltas sent splits its tokens; its report stands. A service that reports nothing is billed by what arrived:
output tokens are the deltas, input tokens are `bodies.input_estimate`, and the usage says `estimated`. Where every
piece tells its choice's tokens so far (`Call.running_usage`), each delta stands for exactly those it brought.
"""

from typing import Final

from dayspring.contracts.events import ChoiceEnd, Event, Started, TextDelta, TokenLogprob, ToolCallDelta, Usage
from dayspring.engines.upstream.answers import Answer, Choice, ChosenLogprob, Logprobs, Message, UsageReport
from dayspring.engines.upstream.bodies import Call, input_estimate
from dayspring.engines.upstream.failures import malformed

__all__ = ["Translation"]

_REASONS: Final = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter",
    # Names that services use for the same four.
    "function_call": "tool_calls", "tool_use": "tool_calls", "max_tokens": "length", "eos": "stop",
    "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop", "safety": "content_filter",
}  # fmt: skip


class Translation:
    """One run's answer. `take` each piece in order, then `finish`."""

    def __init__(self, call: Call, model: str, target: str) -> None:
        self._call = call
        self._model = model
        self._target = target
        self._ends: dict[int, str] = {}
        self._usage: UsageReport | None = None
        self._id = ""
        self._fingerprint = ""
        self._counted = 0
        self._next_weight = 1
        self._told: dict[int, int] = {}
        """Tokens of each choice so far, as the service told them."""
        self._whole = False
        """The answer came in one piece with its count: the first delta stands for all tokens."""

    def started(self) -> Started:
        """What is known when the first piece of a stream is there."""
        report = self._usage
        if report is None or report.prompt_tokens is None:
            return Started(input_tokens=input_estimate(self._call.task), upstream=self._target)
        return Started(report.prompt_tokens, report.cached_tokens, self._target)

    def take(self, answer: Answer) -> list[Event]:
        """The events of one piece, or of an answer in one piece. Raises UpstreamFailed for what cannot be."""
        if answer.usage is not None:
            self._usage = answer.usage
            if not self._call.streaming and answer.usage.completion_tokens is not None:
                self._next_weight = answer.usage.completion_tokens
                self._whole = True
        if answer.id and not self._id:
            self._id = answer.id[:200]
        if answer.system_fingerprint:
            self._fingerprint = answer.system_fingerprint[:200]
        events: list[Event] = []
        for choice in answer.choices or ():
            if self._call.running_usage and answer.usage is not None:
                self._weigh_piece(choice.index, answer.usage)
            self._take_choice(choice, events)
        return events

    def _weigh_piece(self, index: int, report: UsageReport) -> None:
        """The tokens that this choice's piece brought, for its first delta; without one, for the next."""
        before = self._told.get(index, 0)
        self._told[index] = max(report.completion_tokens or 0, before)
        left_over = self._next_weight if self._whole else 0
        self._next_weight, self._whole = self._told[index] - before + left_over, True
        # The piece tells of its own choice; only the last, without one, tells of all.
        self._usage = UsageReport(report.prompt_tokens, sum(self._told.values()), report.prompt_tokens_details)

    def complete(self) -> bool:
        """Has every choice ended?"""
        return len(self._ends) == self._call.choices

    def finish(self) -> list[Event]:
        """The ends of all choices, and the usage. Raises UpstreamFailed when the answer is cut short."""
        if not self.complete():
            raise malformed(self._model, "ended its answer too early")
        report = self._usage or UsageReport()
        events: list[Event] = []
        output = self._counted if report.completion_tokens is None else report.completion_tokens
        if output > self._counted:
            events.append(TextDelta("", tokens=output - self._counted))
        events += [ChoiceEnd(reason, index) for index, reason in sorted(self._ends.items())]
        known = report.prompt_tokens is not None and report.completion_tokens is not None
        prompt = input_estimate(self._call.task) if report.prompt_tokens is None else report.prompt_tokens
        events.append(
            Usage(
                prompt,
                output,
                report.cached_tokens,
                upstream_id=self._id,
                fingerprint=self._fingerprint,
                upstream=self._target,
                estimated=not known,
            )
        )
        return events

    def _take_choice(self, choice: Choice, events: list[Event]) -> None:
        index = choice.index
        if index >= self._call.choices:
            raise malformed(self._model, "answered with more choices than were asked for")
        logprobs = _logprobs(choice.logprobs) if choice.logprobs is not None else None
        message = choice.delta or choice.message
        if message is not None:
            self._take_message(message, index, logprobs, events)
        elif choice.text or logprobs:
            events.append(TextDelta(choice.text or "", index, self._weigh(), logprobs=logprobs))
        if choice.finish_reason is not None:
            reason = _REASONS.get(choice.finish_reason.lower())
            if reason is None:
                raise malformed(self._model, "ended its answer for a reason that the protocol does not have")
            self._ends[index] = reason

    def _take_message(
        self, message: Message, index: int, logprobs: tuple[TokenLogprob, ...] | None, events: list[Event]
    ) -> None:
        if reasoning := message.reasoning_content or message.reasoning:
            events.append(TextDelta(reasoning, index, self._weigh(), "reasoning"))
        if message.refusal:
            events.append(TextDelta(message.refusal, index, self._weigh(), "refusal", logprobs))
        elif message.content or logprobs:
            events.append(TextDelta(message.content or "", index, self._weigh(), logprobs=logprobs))
        for place, tool_call in enumerate(message.tool_calls or ()):
            function = tool_call.function
            events.append(
                ToolCallDelta(
                    function.arguments or "",
                    index,
                    place if tool_call.index is None else tool_call.index,
                    tool_call.id or "",
                    function.name or "",
                    self._weigh(),
                )
            )

    def _weigh(self) -> int:
        """Tokens of the delta about to be made: one in a stream; in one piece, the first stands for all."""
        weight = self._next_weight
        if self._whole:
            self._next_weight = 0
        self._counted += weight
        return weight


def _logprobs(found: Logprobs) -> tuple[TokenLogprob, ...] | None:
    chosen = found.content or found.refusal
    if chosen:
        return tuple(_chosen(one) for one in chosen)
    if not found.tokens:
        return None
    values = found.token_logprobs or []
    tops = found.top_logprobs or []
    return tuple(
        TokenLogprob(
            token,
            # The first token of an echoed prompt has null: it was given, not drawn, so its probability is one.
            (values[place] if place < len(values) else None) or 0.0,
            top=tuple(TokenLogprob(*pair) for pair in ((tops[place] if place < len(tops) else None) or {}).items()),
        )
        for place, token in enumerate(found.tokens)
    )


def _chosen(one: ChosenLogprob) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token, other.logprob, other.bytes) for other in one.top_logprobs or ())
    return TokenLogprob(one.token, one.logprob, one.bytes, top)
