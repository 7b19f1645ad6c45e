"""The gateway against LiteLLM's proxy and against nothing: one stub upstream, interleaved rounds, medians, ratios.

Ours runs as a user runs it: one server process, a key, a reservation and a durable settlement for every request, once
with `synchronous=NORMAL` and once with `FULL`. LiteLLM runs with a master key and no database, so it settles nothing.
What a gateway adds is its latency at one connection less that of the stub asked straight, from the same round.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dev.bench.load import CHAT, post
from dev.bench.ours import dayspring
from dev.bench.processes import Running, free_port, running
from dev.bench.record import median, print_table, write

LITELLM = "litellm"
STRAIGHT = "straight"


class Side(NamedTuple):
    """One server that is measured."""

    url: str
    model: str
    key: str
    process: Running | None


def main(words: list[str] | None = None) -> None:
    chosen = _arguments(words)
    with ExitStack() as stack:
        upstream = stack.enter_context(stub_upstream())
        sides = {STRAIGHT: Side(upstream, "stub", "none", None)}
        if not chosen.without_ours:
            for level in ("NORMAL", "FULL"):
                sides[level.lower()] = stack.enter_context(gateway(upstream, level))
        if not chosen.without_litellm:
            sides[LITELLM] = stack.enter_context(litellm(upstream, chosen.litellm_venv))
        rounds: list[dict[str, Any]] = []
        for side in sides.values():
            post(side.url, model=side.model, key=side.key, connections=8, seconds=1)
        for number in range(chosen.rounds):
            rounds += [_round(number, name, side, chosen.seconds) for name, side in sides.items()]
    _report(rounds, list(sides), chosen)


@contextmanager
def stub_upstream() -> Iterator[str]:
    """The stub under granian in its own process; gives its base URL."""
    port = free_port()
    command = [
        sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--workers", "1", "--no-ws",
        "--http", "1", "--log-level", "warning", "dev.bench.stub:app",
    ]  # fmt: skip
    with running(command, port):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def gateway(upstream: str, synchronous: str) -> Iterator[Side]:
    """Our server with the stub as a priced upstream model, so that every request settles money."""
    add = ("models", "add", f"upstream:{upstream}#stub", "--id", "stub", "--ability", "chat", "--yes")
    price = ("prices", "set", "stub", "--input", "1.00", "--output", "2.00")
    with dayspring({"DAYSPRING_SYNCHRONOUS": synchronous}, add, price) as (url, key, process):
        yield Side(url, "stub", key, process)


@contextmanager
def litellm(upstream: str, venv: Path) -> Iterator[Side]:
    """LiteLLM's proxy in its own environment, which is made when it is not there."""
    program = venv / "bin" / "litellm"
    if not program.exists():
        print(f"installing litellm[proxy] into {venv} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "-q", "litellm[proxy]"], check=True)
    key = "sk-" + secrets.token_hex(24)
    port = free_port()
    config = {
        "model_list": [
            {
                "model_name": "stub",
                "litellm_params": {"model": "openai/stub", "api_base": upstream, "api_key": "sk-stub"},
            }
        ],
        "general_settings": {"master_key": key},
    }
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)  # JSON is YAML
        file.flush()
        command = [
            str(program),
            "--config",
            file.name,
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
            "--num_workers",
            "1",
        ]
        with running(command, port, env=env) as process:
            yield Side(f"http://127.0.0.1:{port}/v1", "stub", key, process)


def _round(number: int, name: str, side: Side, seconds: float) -> dict[str, Any]:
    used_s = side.process.cpu_s() if side.process else 0.0
    many = post(side.url, model=side.model, key=side.key, connections=8, seconds=seconds)
    used_s = side.process.cpu_s() - used_s if side.process else 0.0
    alone = post(side.url, model=side.model, key=side.key, connections=1, seconds=seconds)
    if many.failed or alone.failed:
        raise SystemExit(f"{name}: {many.failed + alone.failed} requests failed; a figure of those would mean nothing")
    return {
        "round": number,
        "side": name,
        "requests_s": many.requests_s,
        "cpu_us": round(1e6 * used_s / many.requests, 1),
        "p50_ms": many.p50_ms,
        "p99_ms": many.p99_ms,
        "alone_requests_s": alone.requests_s,
        "alone_p50_ms": alone.p50_ms,
        "alone_p99_ms": alone.p99_ms,
        "resident_mb": side.process.resident_mb(children=True) if side.process else 0.0,
    }


def _report(rounds: list[dict[str, Any]], names: list[str], chosen: argparse.Namespace) -> None:
    def of(name: str, figure: str) -> list[float]:
        return [one[figure] for one in rounds if one["side"] == name]

    measured = [figure for figure in rounds[0] if figure not in {"round", "side"}]
    medians: dict[str, dict[str, float]] = {}
    for name in names:
        medians[name] = {figure: median(of(name, figure)) for figure in measured}
        for figure in ("p50_ms", "p99_ms"):
            pairs = zip(of(name, f"alone_{figure}"), of(STRAIGHT, f"alone_{figure}"), strict=True)
            medians[name][f"added_{figure}"] = median([through - straight for through, straight in pairs])
    ratios: dict[str, float] = {}
    if LITELLM in names:
        for name in set(names) & {"normal", "full"}:
            pairs = zip(of(name, "requests_s"), of(LITELLM, "requests_s"), strict=True)
            ratios[f"{name}_to_litellm"] = median([ours / theirs for ours, theirs in pairs], 1)
    print_table(("side", *medians[names[0]]), [(name, *medians[name].values()) for name in names])
    print_table(("ratio", "times"), sorted(ratios.items()))
    write(
        "gateway",
        {"medians": medians, "ratios": ratios, "rounds": rounds},
        versions=("dayspring", "uvicorn", "httptools", "uvloop", "fastapi", "aiohttp", "sqlalchemy", "granian"),
        setup={
            "rounds": chosen.rounds,
            "seconds": chosen.seconds,
            "connections": 8,
            "alone": 1,
            "body": {"model": "stub", **CHAT},
            "litellm": _litellm_version(chosen.litellm_venv) if LITELLM in names else "",
        },
    )


def _litellm_version(venv: Path) -> str:
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([str(venv / "bin" / "python"), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _arguments(words: list[str] | None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "dayspring-bench" / "litellm-venv"
    parser = argparse.ArgumentParser(prog="python -m dev.bench gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each of the two loads in a round")
    parser.add_argument("--litellm-venv", type=Path, default=cache, help="made when it is not there")
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--without-ours", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
