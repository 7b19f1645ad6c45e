"""A real bundle, made here and installed where there is nothing: no index, no network, an empty home; and a chat."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dayspring.hub.bundle.manifest import TOP

CHAT = """
import json, pathlib, sys, time, urllib.request
url, key = "http://127.0.0.1:" + sys.argv[1], pathlib.Path(sys.argv[2]).read_text().strip()
for _ in range(600):
    try:
        urllib.request.urlopen(url + "/readyz")
        break
    except OSError:
        time.sleep(0.1)
body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 8}
headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
asked = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), headers)
print(json.load(urllib.request.urlopen(asked, timeout=120))["usage"]["completion_tokens"])
"""
SCRIPT = """
set -e
ip link set lo up 2>/dev/null || true
sh {top}/install.sh --into ./venv
./venv/bin/dayspring serve --port 8423 > serve.log 2>&1 &
server=$!
./venv/bin/python -I -c "$CHAT" 8423 "$HOME/.dayspring/admin.key" > said
kill $server
wait $server || true
"""


def run(command: list[str], **more: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.soak
@pytest.mark.model
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("made_by", ["checkout", "installed"])
def test_a_bundle_installs_and_chats_without_a_network(tmp_path: Path, made_by: str) -> None:
    maker = [sys.executable, "-m", "dayspring"]
    home = tmp_path / "maker"
    if made_by == "installed":
        # A Dayspring that came as a wheel makes the same bundle: there is no source tree to build from.
        first = tmp_path / "first.tar"
        run([*maker, "bundle", str(first), "--no-models", "--home", str(home)])
        with tarfile.open(first) as archive:
            archive.extractall(tmp_path, filter="data")
        folder = (tmp_path / TOP).rename(tmp_path / "first")
        run(["sh", str(folder / "install.sh"), "--into", str(tmp_path / "first-venv"), "--no-models"])
        python = str(tmp_path / "first-venv" / "bin" / "python")
        run([python, "-m", "ensurepip"])
        maker = [python, "-m", "dayspring"]
    place = tmp_path / "out.tar"
    run([*maker, "bundle", str(place), "--home", str(home)])
    there = tmp_path / "there"
    (there / "home").mkdir(parents=True)
    with tarfile.open(place) as archive:
        archive.extractall(there, filter="data")
    unshare = shutil.which("unshare")
    alone = [unshare, "-n"] if unshare and os.geteuid() == 0 else []
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(there / "home"),
        "PYTHON": sys.executable,
        "CHAT": CHAT,
        # Where the network cannot be taken away, what would be asked is a closed port.
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "https_proxy": "http://127.0.0.1:9",
    }
    run([*alone, "sh", "-c", SCRIPT.format(top=TOP)], cwd=there, env=environment)
    assert int((there / "said").read_text()) > 0
