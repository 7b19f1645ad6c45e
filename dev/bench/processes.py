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
        pids = self._group() if children else {self.process.pid: []}
        return round(sum(_resident_bytes(pid) for pid in pids) / 1e6, 1)

    def cpu_s(self) -> float:
        """Processor time that its process group has used: other work on the machine does not count in it."""
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in self._group().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def _group(self) -> dict[int, list[str]]:
        """Fields of /proc/PID/stat from the state on (proc(5)), for each living process of the group."""
        found: dict[int, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[2]) == self.process.pid:
                found[int(path.parent.name)] = fields
        return found


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
