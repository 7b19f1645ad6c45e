"""What is installed is what runs: the wheel is built, looked into, and started in an environment of its own."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from dayspring import __version__

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".toml", ".html", ".mako", ".sh", ".typed"}
"""Kinds of file that the package is made of: another is one that slipped in, or needs a word here."""
NEEDED = (
    "dayspring/py.typed", "dayspring/hub/catalogue.toml", "dayspring/server/welcome.html",
    "dayspring/store/migrations/env.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (made,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(made)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"dayspring-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"dayspring", info}
    inside = [name for name in names if name.startswith("dayspring/")]
    assert [name for name in inside if f".{name.rpartition('.')[2]}" not in KINDS] == []
    assert [name for name in inside if "test_" in name or "conftest" in name] == []
    assert [name for name in NEEDED if name not in names] == []
    here = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/dayspring").rglob("*.py")}
    assert here <= set(names)


def test_the_wheels_metadata_says_what_pyproject_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"dayspring-{__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        entries = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "Apache-2.0")
    needs = metadata.get_all("Requires-Dist") or []
    assert any(need.startswith("uvicorn") for need in needs)
    assert not [need for need in needs if re.match(r"pytest|ruff|mypy|hypothesis|schemathesis", need)]
    assert "dayspring = dayspring.cli.main:main" in entries
    assert "[dayspring.engines]" in entries


def test_no_file_of_the_wheel_runs_at_every_start_of_python(wheel: Path) -> None:
    """A `.pth` file is how a poisoned package runs before anything is imported."""
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith((".pth", ".start", ".data"))] == []


def test_the_source_archive_can_be_built_and_holds_no_leftovers(tmp_path: Path) -> None:
    (made,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(made) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for needed in ("pyproject.toml", "src/dayspring/py.typed", "tests/conftest.py", "LICENSE", "constraints.txt"):
        assert needed in names
    assert [name for name in names if name.endswith((".whl", ".pyc", ".db", ".key", ".so"))] == []


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel in it, and our dependencies but not our source beside it."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A path named in a .pth file is not searched for .pth files: the editable install of the source is not seen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "python"


def run(python: Path, home: Path, *words: str) -> str:
    environment = {"PATH": os.defpath, "DAYSPRING_HOME": str(home), "HOME": str(home)}
    done = subprocess.run(
        [str(python), *words], env=environment, cwd=home, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_wheel_makes_an_installation_and_knows_its_engines(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import dayspring; print(dayspring.__file__)").strip()
    assert Path(where).is_relative_to(installed.parents[1])
    assert run(installed, tmp_path, "-m", "dayspring", "--version").strip() == __version__
    made = run(installed, tmp_path, "-m", "dayspring", "keys", "create", "--name", "first", "--json")
    assert '"key"' in made or '"token"' in made
    assert (tmp_path / "dayspring.db").exists()
    engines = "from dayspring.contracts.registry import engines; print(sorted(engines()))"
    assert "llamacpp" in run(installed, tmp_path, "-c", engines)
    assert sys.version_info >= (3, 11)
