"""From a fresh clone and an empty home: `make serve` to the first token, beside what cannot be avoided.

What cannot be avoided is a new environment, `pip install` of the same packages, and a copy of the model's file, done in
the same run. Also: what was downloaded and installed, a second start, and the idle server's memory.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from dev.bench.ours import wait_ready
from dev.bench.processes import free_port, running
from dev.bench.record import ROOT, median, print_table, write

_CHAT_WORD = "instruct"
"""Part of the id of the default pack's chat model."""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.bench start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--working-tree", action="store_true", help="files as they are here, not the last commit")
    chosen = parser.parse_args(words)
    rounds = []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory(prefix="dayspring-start-") as folder:
            rounds.append(_round(Path(folder), working_tree=chosen.working_tree))
    medians = {name: median([one[name] for one in rounds]) for name in rounds[0]}
    print_table(("figure", "value"), list(medians.items()))
    write("start", {"medians": medians, "rounds": rounds}, versions=("dayspring", "pip"), setup=vars(chosen))


def _round(folder: Path, *, working_tree: bool) -> dict[str, float]:
    clone, data, home = folder / "clone", folder / "data", folder / "home"
    home.mkdir()
    _copy_source(clone, working_tree=working_tree)
    env = _environment(home, data)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    # make's children are told to stop as a group, as a terminal's Ctrl-C does.
    with running(["make", "-C", str(clone), "serve", f"ARGS=--port {port}"], port, env=env, ready_s=600) as server:
        _first_token(base, data)
        first_token_s = time.perf_counter() - began
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(60)
    found = {
        "make_serve_to_first_token_s": first_token_s,
        "environment_installed_mb": _size_mb(clone / ".venv"),
        "data_mb": _size_mb(data),
        **_second_start(clone, data, env),
        **_plain(folder, clone, data),
    }
    found["ratio_to_plain"] = first_token_s / found["plain_install_and_copy_s"]
    return {name: round(value, 3) for name, value in found.items()}


def _copy_source(clone: Path, *, working_tree: bool) -> None:
    if not working_tree:
        subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), str(clone)], check=True)
        return
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)


def _environment(home: Path, data: Path) -> dict[str, str]:
    """An empty home, but pip's own configuration: without it a closed network has no package index."""
    env = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "DAYSPRING_HOME": str(data), "VIRTUAL_ENV": ""}
    for name in (".config/pip/pip.conf", ".pip/pip.conf"):
        if "PIP_CONFIG_FILE" not in os.environ and (Path.home() / name).exists():
            env["PIP_CONFIG_FILE"] = str(Path.home() / name)
    return env


def _first_token(base: str, data: Path, limit_s: float = 600) -> None:
    """Asks until the default chat model streams its first token."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            key = (data / "admin.key").read_text().strip()
            names = [one["id"] for one in json.load(_open(f"{base}/v1/models", key))["data"]]
            model = next(name for name in names if _CHAT_WORD in name)
            body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
            for line in _open(f"{base}/v1/chat/completions", key, body):
                if line.startswith(b"data: {") and any(
                    choice["delta"].get("content") for choice in json.loads(line[6:])["choices"]
                ):
                    return
        except (OSError, urllib.error.URLError, StopIteration):
            pass  # not there yet: the key, the server, or the model
        time.sleep(0.1)
    raise SystemExit(f"no token came within {limit_s:g} s")


def _open(url: str, key: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    content = json.dumps(body).encode() if body is not None else None
    return urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=300)


def _second_start(clone: Path, data: Path, env: dict[str, str]) -> dict[str, float]:
    port = free_port()
    command = [str(clone / ".venv" / "bin" / "dayspring"), "serve", "--port", str(port)]
    began = time.perf_counter()
    with running(command, port, env=env) as server:
        wait_ready(f"http://127.0.0.1:{port}/readyz", 60)
        ready_s = time.perf_counter() - began
        time.sleep(3)  # until what is done once after a start is done
        return {"second_start_to_ready_s": ready_s, "idle_server_mb": server.resident_mb()}


def _plain(folder: Path, clone: Path, data: Path) -> dict[str, float]:
    """A new environment with the same packages, from an empty cache, and a copy of the model's file; their size."""
    wanted = tomllib.loads((clone / "pyproject.toml").read_text())["project"]["dependencies"]
    packages = ["--constraint", str(clone / "constraints.txt"), *wanted]
    env = {**os.environ, **_environment(folder / "plain-home", data)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "plain")], check=True, env=env)
    pip = [str(folder / "plain" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "install", *packages], check=True, env=env)
    largest = max((path for path in data.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    shutil.copy(largest, folder / "copied")
    took_s = time.perf_counter() - began
    # What pip keeps in its cache is no measure of what it fetched: an index in a folder leaves nothing there.
    subprocess.run([*pip, "download", "--dest", str(folder / "wheels"), *packages], check=True, env=env)
    return {"plain_install_and_copy_s": took_s, "packages_downloaded_mb": _size_mb(folder / "wheels")}


def _size_mb(folder: Path) -> float:
    """Megabytes (1e6 bytes) of all files below, each counted once however often it is linked."""
    sizes = {(stat.st_dev, stat.st_ino): stat.st_size for stat in (p.lstat() for p in folder.rglob("*") if p.is_file())}
    return sum(sizes.values()) / 1e6


if __name__ == "__main__":
    main()
