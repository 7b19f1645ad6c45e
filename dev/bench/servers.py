"""Which HTTP server carries the gateway: uvicorn, granian, or granian embedded. The record is decision 0003.

One proxy (FastAPI and aiohttp) under each, the stub upstream behind it, rounds interleaved; then what each does to a
stream when the client leaves and when SIGTERM comes.
"""

import argparse
import http.client
import sys
import time
from typing import Any

from dev.bench.gateway import stub_upstream
from dev.bench.load import post
from dev.bench.processes import Running, free_port, running
from dev.bench.record import median, print_table, write

SERVERS = ("uvicorn", "granian", "granian-embedded")
_LEAVE_AFTER_PIECES = 3


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.bench servers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    chosen = parser.parse_args(words)
    rounds: list[dict[str, Any]] = []
    with stub_upstream() as upstream:
        for _ in range(chosen.rounds):
            rounds += [_round(server, upstream, chosen.seconds) for server in SERVERS]
        behaviour = {server: _behaviour(server, upstream) for server in SERVERS}
    measured = ("requests_s", "cpu_us", "p50_ms", "p99_ms", "alone_p50_ms", "alone_p99_ms", "resident_mb", "ready_s")
    medians = {
        server: {name: median([one[name] for one in rounds if one["server"] == server]) for name in measured}
        for server in SERVERS
    }
    print_table(("server", *measured), [(server, *medians[server].values()) for server in SERVERS])
    print_table(("server", *behaviour["uvicorn"]), [(server, *behaviour[server].values()) for server in SERVERS])
    write(
        "servers",
        {"medians": medians, "behaviour": behaviour, "rounds": rounds},
        versions=("uvicorn", "httptools", "uvloop", "granian", "fastapi", "aiohttp"),
        setup={"rounds": chosen.rounds, "seconds": chosen.seconds, "connections": 8, "alone": 1},
    )


def _proxy(server: str, upstream: str, port: int) -> Any:
    command = [sys.executable, "-m", "dev.bench.proxy", server, str(port)]
    return running(command, port, env={"BENCH_UPSTREAM": upstream})


def _round(server: str, upstream: str, seconds: float) -> dict[str, Any]:
    port = free_port()
    with _proxy(server, upstream, port) as process:
        url = f"http://127.0.0.1:{port}/v1"
        post(url, model="stub", key="k", connections=8, seconds=1)
        used_s = process.cpu_s()
        many = post(url, model="stub", key="k", connections=8, seconds=seconds)
        used_s = process.cpu_s() - used_s
        alone = post(url, model="stub", key="k", connections=1, seconds=seconds)
        return {
            "server": server,
            "requests_s": many.requests_s,
            "cpu_us": round(1e6 * used_s / many.requests, 1),
            "p50_ms": many.p50_ms,
            "p99_ms": many.p99_ms,
            "alone_p50_ms": alone.p50_ms,
            "alone_p99_ms": alone.p99_ms,
            "resident_mb": process.resident_mb(children=True),
            "ready_s": process.ready_s,
            "failed": many.failed + alone.failed,
        }


def _behaviour(server: str, upstream: str) -> dict[str, Any]:
    port = free_port()
    with _proxy(server, upstream, port) as process:
        began = time.perf_counter()
        left = _read_stream(port, _LEAVE_AFTER_PIECES)
        settled = _wait_for(process, "stream settled")
        noticed_s = round(time.perf_counter() - began - left[1], 2)
    port = free_port()
    with _proxy(server, upstream, port) as process:
        pieces, _ = _read_stream(port, 1000, after=(_LEAVE_AFTER_PIECES, process))
        process.process.wait(30)
        lines = [line for line in process.output().splitlines() if line.startswith(("stream", "lifespan"))]
    return {
        "noticed a client that left after s": noticed_s if settled else "never",
        "pieces of 20 a stream got across SIGTERM": pieces,
        "order at the end": "; ".join(lines) or "nothing",
    }


def _read_stream(port: int, pieces: int, after: tuple[int, Running] | None = None) -> tuple[int, float]:
    """Pieces that came, and the seconds it took; `after` so many the process gets SIGTERM."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    got = 0
    try:
        while got < pieces and answer.readline():
            answer.readline()
            got += 1
            if after is not None and got == after[0]:
                after[1].process.terminate()
    except (http.client.HTTPException, ConnectionError):
        pass
    connection.close()
    return got, time.perf_counter() - began


def _wait_for(process: Running, text: str) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if text in process.output():
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    main()
