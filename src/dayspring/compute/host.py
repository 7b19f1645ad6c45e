"""The worker process: `python -m dayspring.compute.host FD`, one model behind one inherited socket.

What holds: nothing heavy is imported before the engine's session is loaded; the model has answered a real inference
before Ready is sent; a cancelled run has stopped when its Done is sent; the process ends when the server does, by the
socket's end and, on Linux, by the parent-death signal as well.
What it does not do: listen, or read any setting; all it knows comes in the Load frame.
"""

import asyncio
import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from dayspring.compute.frames import FrameProtocol
from dayspring.contracts import wire
from dayspring.contracts.engine import Session
from dayspring.contracts.events import Started, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, RerankTask, Sampling, Task
from dayspring.core.errors import DayspringError, Defect

_new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_event_loop
except ImportError:  # not made for this system
    from asyncio import new_event_loop as _new_event_loop

__all__ = ["main", "resident_bytes"]

_PR_SET_PDEATHSIG = 1
_TURN_EVENTS = 64
"""A session that never waits gives up its turn so often, or a cancel would go unread."""


class _Call:
    """One run: its task, and whether its reader keeps up."""

    def __init__(self) -> None:
        self.work: asyncio.Task[None] | None = None
        self.go = asyncio.Event()
        self.go.set()


class _Host:
    def __init__(self) -> None:
        self._frames = FrameProtocol(self._on_frame, self._on_end)
        self._session: Session | None = None
        self._calls: dict[int, _Call] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(1)
        self._queues_itself = False
        self.over = asyncio.Event()

    async def serve(self, connection: socket.socket) -> None:
        """Until the server closes or is gone."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._frames, sock=connection)
        await self.over.wait()

    def _on_end(self) -> None:
        # Nobody is left to answer: threads of the heavy library may never notice a polite end.
        sys.stderr.flush()
        os._exit(0)

    def _on_frame(self, body: bytes) -> None:
        message = wire.decode_to_worker(body)
        match message:
            case wire.Run(call, task):
                self._calls[call] = state = _Call()
                state.work = asyncio.get_running_loop().create_task(self._run(call, state, task))
                state.work.add_done_callback(lambda work: self._ended(call, work))
            case wire.Cancel(call):
                if (found := self._calls.get(call)) is not None and found.work is not None:
                    found.work.cancel()
            case wire.Pace(call, go):
                if (found := self._calls.get(call)) is not None:
                    found.go.set() if go else found.go.clear()
            case wire.Count(call, task):
                self._start(self._count(call, task))
            case wire.Load():
                self._start(self._load(message))
            case wire.Close():
                self._start(self._close())

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def _load(self, order: wire.Load) -> None:
        started = time.monotonic()
        try:
            module, _, function = order.session.partition(":")
            opened = getattr(importlib.import_module(module), function)
            self._session = session = await opened(order.model, order.device, order.options)
            self._queues_itself = getattr(session, "queues_itself", False)
            self._slots = asyncio.Semaphore(session.parallel)
            await _first_inference(session, order.model)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises is reported, and its text kept in the log
            self._frames.send(_failed(-1, error))
            self._frames.close()
            return
        took_s = time.monotonic() - started
        self._frames.send(wire.Ready(session.parallel, resident_bytes(), took_s))

    async def _run(self, call: int, state: _Call, task: Task) -> None:
        assert self._session is not None  # noqa: S101 - the server sends no run before Ready
        if self._queues_itself:
            await self._pump(call, state, self._session.run(task))
        else:
            async with self._slots:  # an asyncio.Semaphore serves in order of arrival
                self._frames.send(wire.Began(call))
                await self._pump(call, state, self._session.run(task))

    def _ended(self, call: int, work: asyncio.Task[None]) -> None:
        # A callback rather than a `finally`: a task cancelled before its first step runs none of its code.
        del self._calls[call]
        error = None if work.cancelled() else work.exception()
        self._frames.send(wire.Done(call) if error is None else _failed(call, error))

    async def _pump(self, call: int, state: _Call, events: AsyncIterator[Any]) -> None:
        send, go = self._frames.send, state.go
        sent = 0
        async with aclosing(events):  # type: ignore[type-var] # an async generator, as the contract says
            async for event in events:
                if self._queues_itself and type(event) is Started:
                    send(wire.Began(call))
                send(wire.Emit(call, event))
                sent += 1
                if sent % _TURN_EVENTS == 0:
                    await asyncio.sleep(0)
                if not go.is_set():
                    await go.wait()

    async def _count(self, call: int, task: Task) -> None:
        try:
            assert self._session is not None  # noqa: S101 - the server counts nothing before Ready
            self._frames.send(wire.Counted(call, await self._session.count_tokens(task)))
        except Exception as error:  # noqa: BLE001 - as in _run
            self._frames.send(_failed(call, error))

    async def _close(self) -> None:
        running = [state.work for state in self._calls.values() if state.work is not None]
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self.over.set()


def _failed(call: int, error: BaseException) -> wire.Failed:
    """The frame for an error; what is not of our tree is a defect, and its trace goes to the log only."""
    if isinstance(error, DayspringError):
        return wire.failure(call, error)
    traceback.print_exception(error, file=sys.stderr)
    return wire.failure(call, Defect())


async def _first_inference(session: Session, model: Model) -> None:
    """Asks the model for one token or vector. Raises what the engine raises, Defect if the answer has no end."""
    one = Sampling(max_tokens=1)
    task: Task
    if Ability.CHAT in model.abilities:
        task = ChatTask(({"role": "user", "content": "Hello"},), one)
    elif Ability.COMPLETION in model.abilities:
        task = CompletionTask(("Hello",), one)
    elif Ability.RERANK in model.abilities:
        task = RerankTask("Hello", ("Hello",))
    else:
        task = EmbeddingTask(("Hello",))
    events = [event async for event in session.run(task)]
    if not events or not isinstance(events[-1], Usage):
        raise Defect


def resident_bytes() -> int:
    """Memory this process holds now; its peak where the system does not tell."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _die_with(parent: int) -> None:
    """Linux: have the kernel end this process when the server's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(0)


def main(arguments: list[str]) -> None:
    """FD of the connected socket, then the server's process id."""
    descriptor, parent = map(int, arguments)
    os.set_inheritable(descriptor, False)  # a program that an engine starts must not hold our end open
    _die_with(parent)
    for polite in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the server's to handle, it ends streams
        signal.signal(polite, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_Host().serve(socket.socket(fileno=descriptor)))
    sys.stdout.flush()
    os._exit(0)  # the model is closed; a library's threads and destructors have nothing left to say


if __name__ == "__main__":
    main(sys.argv[1:])
