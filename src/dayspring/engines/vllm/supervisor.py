"""Keeps one program and everything it starts, and ends them all: `python -P -m dayspring.engines.vllm.supervisor ...`.

The program has processes of its own, which outlive it when it is killed and keep the accelerator's memory. What holds:
when the program ends, when asked to (SIGTERM), and when whoever started this is gone (standard input ends, and on Linux
the parent-death signal), the program's process group gets SIGTERM, after GRACE_S SIGKILL, and on Linux whatever else it
started as well; this process ends last, with the program's status. If this process itself is killed, the kernel kills
the program. What it does not do: restart anything.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["GRACE_S", "main"]

GRACE_S = 3.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.05


def main(arguments: list[str]) -> int:
    """Runs the program; its status, 128 and more for a signal."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for name in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(name, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the whole group, and ending is the worker's to say
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    program = subprocess.Popen(  # noqa: S603 - the operator's program
        arguments,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one thread
    )
    _until_over(program, reading)
    _end(program)
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def _until_over(program: "subprocess.Popen[bytes]", wakeups: int) -> None:
    """Until the program ended, or nobody wants it any more."""
    while program.poll() is None:
        ready, _, _ = select.select([0, wakeups], [], [])
        if wakeups in ready and signal.SIGTERM in os.read(wakeups, 256):
            return
        if 0 in ready and not os.read(0, 256):
            return


def _end(program: "subprocess.Popen[bytes]") -> None:
    """Ends what is left of the program's group, and of everything else it started."""
    _signal_group(program.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(GRACE_S)
    _signal_group(program.pid, signal.SIGKILL)
    program.wait()
    while left := _children():
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_LOOK_S)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _children() -> list[int]:
    """Linux: processes whose parent this one is by now."""
    with contextlib.suppress(OSError):
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        return [int(pid) for pid in listed.split()]
    return []


def _die_with_parent() -> None:
    """In the program's process, before it is the program."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
