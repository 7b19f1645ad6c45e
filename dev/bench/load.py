"""Load by wrk: requests each second and latencies of one chat body, posted over and over."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["CHAT", "Load", "post"]

CHAT = {"messages": [{"role": "user", "content": "Say hello, please, in one sentence."}]}
"""The one-message body that every gateway gets, less its model."""


class Load(NamedTuple):
    requests_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int
    """Answers of another status than 2xx or 3xx, and connections that broke."""


def post(base_url: str, *, model: str, key: str, connections: int, seconds: float) -> Load:
    """One wrk run with one thread against `<base_url>/chat/completions`."""
    if shutil.which("wrk") is None:
        raise SystemExit("The gateway benchmark needs wrk. On Debian and Ubuntu: apt-get install wrk")
    script = Path(__file__).with_name("post_chat.lua")
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency",
         "-s", str(script), f"{base_url}/chat/completions"],
        env={**os.environ, "BENCH_BODY": json.dumps({"model": model, **CHAT}), "BENCH_KEY": key},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"wrk failed: {done.stderr or done.stdout}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Load(
        round(found["requests"] / found["duration_us"] * 1e6, 1),
        found["p50_us"] / 1e3,
        found["p99_us"] / 1e3,
        found["requests"],
        found["failed"],
    )
