"""Server processes for a benchmark: started on a free port, waited for, measured, and stopped whatever happens."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Running", "free_port", "running", "stop", "wait_for_port"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], port: int, *, env: Mapping[str, str] | None = None, ready_s: float = 120
) -> Iterator["Running"]:
    """The process while it listens on `port`. Its output is shown only if it does not get that far."""
    with tempfile.NamedTemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        found = Running(process, Path(log.name))
        try:
            try:
                wait_for_port(port, process, ready_s)
            except RuntimeError as error:
                raise SystemExit(f"{error}\n{found.output()[-4000:]}") from None
            found.ready_s = time.perf_counter() - began
            yield found
        finally:
            stop(process)


class Running:
    """A process that a benchmark started."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.ready_s = 0.0
        self._log = log

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def resident_mb(self, *, children: bool = False) -> float:
        """Resident memory in megabytes (1e6 bytes); with `children` that of its whole process group."""
        pids = [self.process.pid]
        if children:
            pids = [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if self._in_group(stat)]
        return round(sum(_resident_bytes(pid) for pid in pids) / 1e6, 1)

    def _in_group(self, stat: Path) -> bool:
        try:
            return int(stat.read_text().rpartition(")")[2].split()[2]) == self.process.pid
        except OSError:  # it ended meanwhile
            return False


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", ready_s: float) -> None:
    """Returns when something listens. Raises RuntimeError when the process ends or the time is over."""
    end = time.monotonic() + ready_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not listen on port {port} within {ready_s:g} s")


def stop(process: "subprocess.Popen[bytes]", grace_s: float = 15) -> None:
    """SIGTERM, and SIGKILL to its whole group after the grace."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it ended meanwhile, or this system has no /proc
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
