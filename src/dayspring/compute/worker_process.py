"""The server's handle on one worker process: start it, talk to it, see it end.

What holds: the only way to the worker is one inherited socket; it gets no setting and no secret of ours; its output
goes to its own log; when it ends, whatever the cause, every call in it fails with WorkerDied at once and `on_death` is
told. What it does not do: decide when to start or stop one.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from dayspring.compute.background import Background
from dayspring.compute.call import Call
from dayspring.compute.frames import FrameProtocol
from dayspring.compute.log_file import WorkerLog
from dayspring.compute.meter import DeviceMeter
from dayspring.contracts import wire
from dayspring.contracts.tasks import Task
from dayspring.core.environment import child_environment
from dayspring.core.errors import DayspringError, Defect, WorkerDied

__all__ = ["StartFailed", "WorkerProcess", "log_name"]

_log = logging.getLogger(__name__)

_CLOSE_LIMIT_S = 5.0
_STOP_LIMIT_S = 5.0
"""A call that has not stopped so long after it was cancelled hangs, and with it the worker."""
_LOG_READ_BYTES = 1 << 16


class StartFailed(Exception):  # noqa: N818 - named by what happened; `service` turns it into Unavailable
    """The worker did not become ready. The text is our own and may be shown."""


class WorkerProcess:
    def __init__(self, model: str, meter: DeviceMeter, background: Background, log_path: Path) -> None:
        self.model = model
        self.memory_bytes = 0
        """Resident when it became ready."""
        self.load_s = 0.0
        self.parallel = 1
        self.on_death: Callable[[], None] = lambda: None
        self._meter = meter
        self._background = background
        self._log_path = log_path
        self._frames = FrameProtocol(self._on_frame, self._on_end)
        self._numbers = itertools.count()
        self._calls: dict[int, Call] = {}
        self._counts: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[wire.Ready] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._gone = asyncio.Event()
        self._closing = False
        self._deaf = False

    async def start(self, order: wire.Load, limit_s: float) -> None:
        """Until the worker has answered a first inference. Raises StartFailed; no process is left then."""
        try:
            async with asyncio.timeout(limit_s):
                await self._spawn()
                self._frames.send(order)
                ready = await self._ready
        except TimeoutError:
            await self.kill()
            raise StartFailed(f"it was not ready after {limit_s:g} s (DAYSPRING_WORKER_START_TIMEOUT_S)") from None
        except DayspringError as error:  # the engine's own words, from our tree
            await self.kill()
            raise StartFailed(error.message.rstrip(".")) from None
        except OSError as error:
            await self.kill()
            raise StartFailed(f"no process could be started ({type(error).__name__})") from None
        except BaseException:
            await self.kill()
            raise
        self.parallel, self.memory_bytes, self.load_s = ready.parallel, ready.memory_bytes, ready.load_s

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            # -P: nothing is imported from the folder the server happens to be started in.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "dayspring.compute.host", str(descriptor), str(os.getpid())),
                pass_fds=(descriptor,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(),
            )
        self._background.start(self._watch(self._process), f"watch worker {self.model}")
        await asyncio.get_running_loop().create_unix_connection(lambda: self._frames, sock=ours)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Keeps the log until the process has ended, then says how it ended."""
        log = WorkerLog(self._log_path)
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above; narrows the type
            while data := await process.stdout.read(_LOG_READ_BYTES):
                log.write(data)
            code = await process.wait()
        except asyncio.CancelledError:
            # The room closes while this process dies: it is waited for, or it and its pipe outlive the loop.
            self._kill_now()
            await process.communicate()
            raise
        finally:
            log.close()
        self._end(_how(code))

    def run(self, task: Task) -> tuple[int, Call]:
        """Starts a call. Its number is for `stop`."""
        number = next(self._numbers)
        call = Call(self._meter, lambda go: self._frames.send(wire.Pace(number, go)))
        if self._deaf:
            call.ended(WorkerDied(model=self.model))
        else:
            self._calls[number] = call
            self._frames.send(wire.Run(number, task))
        return number, call

    async def stop(self, number: int, call: Call) -> None:
        """Until the work of this call has stopped, if it is not over. A worker that does not stop is ended."""
        if call.over.is_set():
            return
        self._frames.send(wire.Cancel(number))
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await call.over.wait()
        except TimeoutError:
            _log.warning("worker of %s did not stop a cancelled call and was ended", self.model)
            await self.kill()
        except asyncio.CancelledError:
            call.stop_metering()
            raise

    async def count_tokens(self, task: Task) -> int:
        """Raises what the session raises, or WorkerDied."""
        if self._deaf:
            raise WorkerDied(model=self.model)
        number = next(self._numbers)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._counts[number] = answer
        self._frames.send(wire.Count(number, task))
        try:
            return await answer
        finally:
            del self._counts[number]

    async def close(self) -> None:
        """Asks the worker to let go of its model and end; ends it when it does not."""
        self._closing = True
        self._frames.send(wire.Close())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await self._gone.wait()
        await self.kill()

    async def kill(self) -> None:
        """Ends the process now, and waits until it is gone."""
        self._closing = True
        self._kill_now()
        if self._process is not None:
            await self._gone.wait()
        self._frames.close()

    def _kill_now(self) -> None:
        # Not Process.kill(): it polls first, and so takes the exit status away from the loop's own watcher.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return int(self._process.pid) if self._process is not None else 0

    def _on_frame(self, body: bytes) -> None:
        message = wire.decode_from_worker(body)
        match message:
            case wire.Emit(number, event):
                if (call := self._calls.get(number)) is not None:
                    call.event(event)
            case wire.Began(number):
                if (call := self._calls.get(number)) is not None:
                    call.began()
            case wire.Done(number):
                if (call := self._calls.pop(number, None)) is not None:
                    call.ended()
            case wire.Failed(number):
                self._failed(number, wire.revive(message))
            case wire.Counted(number, tokens):
                if (answer := self._counts.get(number)) is not None and not answer.done():
                    answer.set_result(tokens)
            case wire.Ready():
                if not self._ready.done():
                    self._ready.set_result(message)

    def _failed(self, number: int, error: DayspringError) -> None:
        if isinstance(error, Defect):
            _log.error("worker of %s failed inside; its trace is in %s", self.model, self._log_path.name)
        if number < 0 and not self._ready.done():
            self._ready.set_exception(StartFailed("its engine failed inside") if isinstance(error, Defect) else error)
        elif (call := self._calls.pop(number, None)) is not None:
            call.ended(error)
        elif (answer := self._counts.get(number)) is not None and not answer.done():
            answer.set_exception(error)

    def _on_end(self) -> None:
        """The socket is closed: the process has ended or can answer nothing. How it ended is heard a moment later."""
        self._deaf = True
        self._fail_calls()
        self._kill_now()
        self.on_death()

    def _end(self, how: str) -> None:
        self._fail_calls()
        if not self._ready.done():
            self._ready.set_exception(StartFailed(f"its process {how} while it loaded"))
        elif not self._closing:
            _log.warning("worker of %s %s", self.model, how)
        self._gone.set()
        self._frames.close()

    def _fail_calls(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.ended(WorkerDied(model=self.model))
        for answer in self._counts.values():
            if not answer.done():
                answer.set_exception(WorkerDied(model=self.model))


def _environment() -> dict[str, str]:
    """The child's, with waiting threads that give up sooner than GNU OpenMP's own.

    Server and workers share the processor. OpenMP's threads by default spin for milliseconds while they wait for one
    another, and where anything else runs so lose the turns in which they would work: beside two busy processes one
    stream made 4 to 8 tokens a second by default, 15 to 33 with 10 000 spins (two cores). 60 000 cost nothing
    measurable on a machine at rest. An operator's own setting is kept.
    """
    return {"GOMP_SPINCOUNT": "60000"} | child_environment()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def log_name(model: str, number: int) -> str:
    """The log's name; a model id may hold characters that a file name may not."""
    return f"worker-{re.sub(r'[^A-Za-z0-9._-]', '_', model)[:80]}-{number}.log"
