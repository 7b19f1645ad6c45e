"""The code blocks that pages mark with `run`, executed against a running server, as a reader would.

A page's blocks run in order in one process and share their names. The page's address and its data folder are the
reader's (`http://127.0.0.1:8420`, `~/.dayspring`): the first is replaced by the server's, the second is linked to it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from house_docs import runnable
from house_tree import ROOT

ADDRESS = "http://127.0.0.1:8420"
DRIVER = """
import json, subprocess, sys
names = {"__name__": "__page__"}
for where, language, code in json.load(sys.stdin):
    print("--", where, flush=True)
    if language == "python":
        exec(compile(code, where, "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True, stdin=subprocess.DEVNULL)
"""


@pytest.mark.model
@pytest.mark.parametrize("page", runnable(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, server: Any, tmp_path: Path) -> None:
    blocks = [(block.where, block.language, block.code.replace(ADDRESS, server.url)) for block in runnable()[page]]
    (tmp_path / ".dayspring").symlink_to(server.home, target_is_directory=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(blocks),
        env={**os.environ, "HOME": str(tmp_path), "DAYSPRING_HOME": str(server.home), "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in ran.stdout.splitlines() if not line.startswith("-- ")], "the page's blocks show nothing"
