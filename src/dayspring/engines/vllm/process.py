"""The running `vllm serve`: started under its supervisor, watched, its words passed on to the worker's log.

What holds: whatever ends this worker ends it too, with all it started (see `supervisor`); why it did not start is told
in our own words, and its last lines are at the end of the worker's log.
"""

import asyncio
import contextlib
import os
import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence

import aiohttp

from dayspring.core.errors import DayspringError, Refused, Unavailable

__all__ = ["VllmProcess"]

_LOOK_S = 0.1
_TAIL_LINES = 30
_LINE_BYTES = 4096
_STOP_LIMIT_S = 4.5
"""More than the supervisor's grace, and less than the server gives a worker to close."""
_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|KV cache is needed|less than desired GPU memory", re.IGNORECASE
)
_CAUSES = (
    (re.compile(r"unrecognized arguments|invalid choice"), "it does not know an option it was given",
     "Install version 0.12 or newer, or correct the model's options."),
    (re.compile(r"trust_remote_code|trust-remote-code"), "the model asks for code of its own",
     "Take a model that needs none: remote code is never run here."),
    (re.compile(r"not supported for now|has no vLLM implementation|Cannot find model module"),
     "it does not know the model's architecture", "Take another model, or a newer vLLM."),
    (re.compile(r"No module named"), "its installation is not complete", "Install it again."),
)  # fmt: skip


class VllmProcess:
    """`start`, then `healthy`; `gone` is set when it has ended. `close` ends it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.closing = False
        """It was asked to end."""

    async def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "dayspring.engines.vllm.supervisor", *command),
            stdin=asyncio.subprocess.PIPE,  # its end tells the supervisor that this worker is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            limit=_LINE_BYTES,
        )
        self._reading = asyncio.create_task(self._pass_on(self._process))

    async def healthy(self, http: aiohttp.ClientSession, url: str) -> None:
        """Until it says that it serves. Raises Refused or Unavailable when it ended first. The server has the limit."""
        while not self.gone.is_set():
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                    if answer.status == 200:
                        return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self.gone.wait()
        raise self._why()

    async def close(self) -> None:
        """Ends it with all it started."""
        self.closing = True
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self.gone.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await self.gone.wait()

    def last_words(self) -> str:
        """For the worker's log."""
        return b"".join(self._tail).decode("utf-8", "replace")

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for above; narrows the type
        rest = b""
        while data := await process.stdout.read(_LINE_BYTES):
            os.write(1, data)
            *lines, rest = (rest + data).split(b"\n")
            self._tail.extend(line[:_LINE_BYTES] + b"\n" for line in lines)
            rest = rest[-_LINE_BYTES:]
        self._tail.append(rest)
        await process.wait()
        self.gone.set()

    def _why(self) -> DayspringError:
        words, status = self.last_words(), self._process.returncode if self._process else None
        told = f"vLLM ended with status {status} before it served. Its last lines:\n{words}"
        print(told, file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
        if _OUT_OF_MEMORY.search(words):
            return Unavailable(
                f"vLLM found too little memory for {self._model!r}",
                "Set a smaller 'max_model_len', a larger 'gpu_memory_utilization', or unload what else is there.",
            )
        for pattern, rule, remedy in _CAUSES:
            if pattern.search(words):
                return Refused(file="vLLM", rule=rule, remedy=remedy)
        return Refused(
            file="vLLM", rule=f"it ended with status {status} while it loaded the model",
            remedy="Its last lines are at the end of the worker's log.",
        )  # fmt: skip
