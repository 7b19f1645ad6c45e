"""Echo models and tasks for the tests of compute."""

from typing import Any

from dayspring.compute.service import Compute
from dayspring.contracts.devices import Device
from dayspring.contracts.events import Event, TextDelta
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, Sampling

MIB = 1 << 20
CPU = Device("cpu", "cpu", "test", 1 << 40, 2)


def echo(name: str = "echo", *, memory_bytes: int = MIB, **options: Any) -> Model:
    return Model(name, "echo", tuple(Ability), memory_bytes=memory_bytes, options=options)


def chat(text: str = "one two three", **sampling: Any) -> ChatTask:
    return ChatTask(({"role": "user", "content": text},), Sampling(**sampling))


async def answer(compute: Compute, model: Model, task: ChatTask) -> str:
    events: list[Event] = []
    async with compute.run(model, task) as run:
        events.extend([event async for event in run])
    return "".join(event.text for event in events if isinstance(event, TextDelta))
