"""Admission and the reading of chunks."""

import asyncio
import json

import pytest

from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, ToolCallDelta
from dayspring.contracts.tasks import ChatTask, CompletionTask, Sampling
from dayspring.core.errors import (
    ContextLengthExceeded,
    DayspringError,
    Defect,
    InvalidRequest,
    PromptOverLimit,
    UnsupportedParameter,
)
from dayspring.engines.llamacpp.admission import Admission
from dayspring.engines.llamacpp.bodies import choices
from dayspring.engines.llamacpp.chunks import Reader
from dayspring.engines.llamacpp.slots import Place, Slots, Wish


async def test_nobody_overtakes_a_large_request() -> None:
    admission = Admission(Slots(3), 100)
    first = await admission.enter(60, Wish())
    large = asyncio.create_task(admission.enter(80, Wish()))
    small = asyncio.create_task(admission.enter(10, Wish()))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    admission.leave(first)
    admission.leave(await large)
    admission.leave(await small)
    assert (await admission.enter(100, Wish())).cells == 100


async def test_a_waiter_who_goes_makes_way_for_the_next() -> None:
    admission = Admission(Slots(1), 100)
    held = await admission.enter(50, Wish())
    gone = asyncio.create_task(admission.enter(100, Wish()))
    next_one = asyncio.create_task(admission.enter(10, Wish()))
    await asyncio.sleep(0)
    gone.cancel()
    admission.leave(held)
    ticket = await next_one
    with pytest.raises(asyncio.CancelledError):
        await gone
    admission.leave(ticket)
    assert (await admission.enter(100, Wish())).cells == 100


async def test_a_place_given_at_the_moment_its_waiter_goes_is_given_back() -> None:
    admission = Admission(Slots(1), 10)
    held = await admission.enter(10, Wish())
    waiter = asyncio.create_task(admission.enter(10, Wish()))
    await asyncio.sleep(0)
    admission.leave(held)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (await admission.enter(10, Wish())).cells == 10


def test_a_prompt_goes_on_in_the_slot_whose_prompt_begins_most_alike() -> None:
    slots = Slots(3)
    texts = ("the quick brown fox", "the quick red fox", "something else")
    taken = [slots.take(Wish("p", text=text)) for text in texts]
    assert taken == [Place(0, reuse=False), Place(1, reuse=False), Place(2, reuse=False)]
    for place in taken:
        slots.give(place.slot)
    assert slots.take(Wish("p", text="the quick red fox jumps")) == Place(1, reuse=True)
    assert slots.take(Wish("p", text="the quick brown fox")) == Place(0, reuse=True)
    assert slots.take(Wish("p", text="the quick brown fox")) == Place(2, reuse=False)


@pytest.mark.parametrize(
    "other", [Wish("q", text="same"), Wish("p", "lora", "same"), Wish("p", text="same", fresh=True)]
)
def test_a_prefix_is_never_reused_by_another_project_or_adapter_or_by_who_wants_it_fresh(other: Wish) -> None:
    slots = Slots(1)
    for wish, reuse in ((Wish("p", text="same"), False), (Wish("p", text="same"), True), (other, False)):
        assert slots.take(wish) == Place(0, reuse=reuse)
        slots.give(0)
    assert slots.take(Wish("p", text="same")) == Place(0, reuse=other.fresh)


def test_the_slot_used_longest_ago_makes_room_and_an_empty_one_comes_first() -> None:
    slots = Slots(3)
    for text in ("alpha", "beta"):
        slots.give(slots.take(Wish("p", text=text)).slot)
    slots.give(slots.take(Wish("p", text="alpha")).slot)
    assert slots.take(Wish("p", text="new")).slot == 2
    assert slots.take(Wish("p", text="newer")).slot == 1
    assert slots.forget_idle() == [0]
    assert slots.take(Wish("p", text="alpha")) == Place(0, reuse=False)


class Reading:
    """A reader, what it emitted and whether it started."""

    def __init__(self, limit: int | None = None, top: int | None = None) -> None:
        self.events: list[Event] = []
        self.started: list[tuple[int, int]] = []
        self.reader = Reader(
            self.events.append,
            index=0,
            model="m",
            prompt_limit=limit,
            top_logprobs=top,
            started=lambda tokens, cached: self.started.append((tokens, cached)),
        )

    def feed(self, **chunk: object) -> bool:
        return self.reader.feed(json.dumps(chunk))


def delta(text: str, produced: int, **more: object) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, **more}], "timings": {"predicted_n": produced}}


def test_tokens_that_show_late_or_never_are_counted_all_the_same() -> None:
    reading = Reading()
    reading.feed(prompt_progress={"total": 9, "cache": 4})
    reading.feed(prompt_progress={"total": 9, "cache": 4})
    reading.feed(**delta("a", 1))
    reading.feed(**delta("😀", 4))
    reading.feed(choices=[{"delta": {}, "finish_reason": "stop"}])
    reading.feed(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 5}, timings={"predicted_n": 5})
    reading.reader.check_ended()
    assert reading.started == [(9, 4)]
    assert reading.events == [TextDelta("a"), TextDelta("😀", tokens=3), TextDelta("", tokens=1), ChoiceEnd("stop")]


def test_reasoning_and_tool_calls_have_their_own_kinds_and_the_tokens_once() -> None:
    reading = Reading()
    reading.feed(choices=[{"delta": {"reasoning_content": "hm"}}], timings={"predicted_n": 1})
    calls = [
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}},
    ]
    reading.feed(choices=[{"delta": {"tool_calls": calls}}], timings={"predicted_n": 7})
    assert reading.events == [
        TextDelta("hm", kind="reasoning"),
        ToolCallDelta("", id="c1", name="f", tokens=6),
        ToolCallDelta("{}", call_index=1, id="c2", name="g", tokens=0),
    ]


def test_a_prompt_over_the_limit_stops_before_anything_is_emitted() -> None:
    reading = Reading(limit=5)
    assert reading.feed(prompt_progress={"total": 6})
    with pytest.raises(PromptOverLimit) as caught:
        reading.reader.check_ended()
    assert caught.value.input_tokens == 6
    assert (reading.events, reading.started) == ([], [])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "exceed_context_size_error", "code": 400, "n_prompt_tokens": 9, "n_ctx": 8}, ContextLengthExceeded),
        ({"type": "invalid_request_error", "code": 400, "message": "secret text"}, InvalidRequest),
        ({"type": "server_error", "code": 500, "message": "secret text"}, Defect),
    ],
)
def test_the_librarys_errors_become_ours_without_their_text(
    error: dict[str, object], kind: type[DayspringError], capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading()
    assert reading.feed(error=error)
    with pytest.raises(kind) as caught:
        reading.reader.check_ended()
    assert "secret" not in caught.value.message
    assert str(error.get("message", "")) in capsys.readouterr().err


def test_a_chunk_that_cannot_be_read_ends_the_answer_as_a_defect() -> None:
    reading = Reading()
    assert reading.reader.feed("not json")
    with pytest.raises(Defect):
        reading.reader.check_ended()


def test_a_stream_that_just_stops_is_a_defect_unless_it_was_cancelled() -> None:
    reading = Reading()
    reading.feed(**delta("a", 1))
    with pytest.raises(Defect):
        reading.reader.check_ended()
    reading.reader.cancelled = True
    assert reading.feed(**delta("b", 2))
    reading.reader.check_ended()


def test_choices_are_numbered_by_prompt_and_seeded_in_turn() -> None:
    task = CompletionTask(("a", "b"), Sampling(seed=5, max_tokens=100), n=2)
    made = list(choices(task, room=[7, 200]))
    bodies = [json.loads(choice.body) for choice in made]
    assert [(c.index, c.prompt, c.max_tokens) for c in made] == [(0, 0, 7), (1, 0, 7), (2, 1, 100), (3, 1, 100)]
    assert [(b["prompt"], b["seed"], b["max_tokens"]) for b in bodies] == [
        ("a", 5, 7), ("a", 6, 7), ("b", 5, 100), ("b", 6, 100),
    ]  # fmt: skip


def test_what_the_engine_cannot_honour_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter, match="messages"):
        list(choices(ChatTask(({"role": "user", "content": [{"type": "input_audio"}]},))))
    with pytest.raises(UnsupportedParameter, match="logprobs"):
        list(choices(CompletionTask(("a",), Sampling(top_logprobs=1), echo=True)))
    with pytest.raises(UnsupportedParameter):
        list(choices(ChatTask((), schema={"$dynamicRef": "#x", "type": "object"})))
