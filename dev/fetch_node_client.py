"""Fetches the official Node client with npm, once, into the tests' cache folder; its examples are end-to-end tests.

Where node, npm or the package cannot be had this says so and ends well, since the test then skips.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "6.49.0"


def main() -> int:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "dayspring-tests" / "node"
    if (folder / "node_modules" / "openai" / "package.json").exists():
        return 0
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        print("node and npm are not here, so the Node client's examples are skipped: install nodejs and npm")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    words = ["install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([npm, *words, f"openai@{VERSION}"], check=False, timeout=300)
    if done.returncode:
        print("npm could not install the Node client, so its examples are skipped: check npm's registry")
    return 0


if __name__ == "__main__":
    sys.exit(main())
