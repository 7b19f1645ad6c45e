"""Our server for a benchmark, started and set up as a user would: by the command line."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.bench.processes import Running, free_port, running

__all__ = ["answers", "dayspring", "wait_ready"]

_COMMAND = (sys.executable, "-m", "dayspring")
_SETTINGS = {"DAYSPRING_DEFAULT_PACK": "false", "DAYSPRING_LOG_LEVEL": "error"}


@contextmanager
def dayspring(settings: Mapping[str, str], *setup: Sequence[str]) -> Iterator[tuple[str, str, Running]]:
    """A server with an empty home, after each command of `setup` was run on that home: base URL, key, process."""
    with tempfile.TemporaryDirectory(prefix="dayspring-bench-") as home:
        port = free_port()
        env = {**_SETTINGS, **settings}
        for words in setup:
            command = [*_COMMAND, *words, "--home", home]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})
            if done.returncode:
                raise SystemExit(f"'dayspring {' '.join(words)}' failed: {done.stderr or done.stdout}")
        with running([*_COMMAND, "serve", "--home", home, "--port", str(port)], port, env=env) as process:
            base = f"http://127.0.0.1:{port}"
            wait_ready(f"{base}/readyz", 60)
            yield f"{base}/v1", (Path(home) / "admin.key").read_text().strip(), process


def wait_ready(url: str, limit_s: float) -> None:
    """Returns when a GET of `url` is answered with 200."""
    end = time.monotonic() + limit_s
    while not answers(url):
        if time.monotonic() > end:
            raise SystemExit(f"{url} did not answer with 200 within {limit_s:g} s")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
