"""Bundles: what is in one, what refuses it, and the wheel that an installation is put together to again.

The packages are small ones made here, so that no index is asked; `tests/soak` makes and installs a real one.
"""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import pytest
from hub_files import gguf, sha256
from hub_kit import MakeHub

from dayspring.contracts.clock import SystemClock
from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused
from dayspring.hub.bundle import making
from dayspring.hub.bundle.install import _is_plain
from dayspring.hub.bundle.making import make_bundle
from dayspring.hub.bundle.manifest import TOP, read_manifest
from dayspring.hub.bundle.own_wheel import _encoded, repack
from dayspring.hub.bundle.packages import Target, _requirement
from dayspring.hub.plan import Progress
from dayspring.hub.service import Hub


def tiny_wheel(folder: Path, name: str, version: str) -> Path:
    place = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": b"x = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_encoded(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(place, "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    return place


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small wheels in place of Dayspring's."""

    async def gather(folder: Path, target: Target) -> tuple[str, ...]:
        return tuple(_requirement(tiny_wheel(folder, name, "1.0"), "") for name in ("leaf", "dayspring_stub"))

    monkeypatch.setattr(making, "gather", gather)


@pytest.fixture
async def bundle(make_hub: MakeHub, tmp_path: Path, packages: None) -> tuple[Hub, Path]:
    """A bundle with the models `lab/a` and `b`, and a hub on another home to add them to."""
    hub = make_hub(model_licences="any-recorded")
    contents = []
    for name, licence in (("lab/a", "apache-2.0"), ("b", "cc-by-nc-4.0")):
        file = tmp_path / f"{name[-1]}.gguf"
        file.write_bytes(gguf({"general.name": name, "general.license": licence}))
        await hub.add(await hub.plan(f"file:{file}", name))
        contents.append(await hub.contents(name))
    seen: list[Progress] = []
    place = tmp_path / "out.tar"
    scratch = tmp_path / "home" / "scratch"
    made = await make_bundle(place, contents, Target(), scratch, SystemClock(), seen.append)
    assert made.sha256 == hashlib.sha256(place.read_bytes()).hexdigest()
    assert (made.models, made.packages) == (("lab/a", "b"), 2)
    assert seen[-1].done_bytes == seen[-1].total_bytes > 0
    assert list(scratch.iterdir()) == []
    await hub.remove("lab/a")
    await hub.remove("b")
    return hub, place


def unpacked(place: Path, into: Path) -> Path:
    with tarfile.open(place) as archive:
        archive.extractall(into, filter="data")
    return into / TOP


def install(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(folder / "install.sh"), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    )


async def test_everything_in_it_is_listed_and_nothing_tells_of_this_machine(bundle: tuple[Hub, Path]) -> None:
    with tarfile.open(bundle[1]) as archive:
        members = archive.getmembers()
        manifest = read_manifest(archive.extractfile(members[0]).read(), "x")  # type: ignore[union-attr]
        assert members[0].name == f"{TOP}/manifest.json"
        assert {m.name for m in members[1:]} == {f"{TOP}/{file.path}" for file in manifest.files}
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in members} == {(0, 0, "", 0)}
        for file in manifest.files:
            data = archive.extractfile(f"{TOP}/{file.path}").read()  # type: ignore[union-attr]
            assert (sha256(data), len(data)) == (file.sha256, file.size_bytes)
    assert str(bundle[1].parent) not in bundle[1].read_bytes().decode("latin-1").replace(
        "file:" + str(bundle[1].parent), ""
    )


@pytest.mark.parametrize("packed", [True, False])
async def test_a_model_comes_back_from_it_as_it_was(bundle: tuple[Hub, Path], tmp_path: Path, packed: bool) -> None:
    hub, place = bundle
    source = place if packed else unpacked(place, tmp_path / "un")
    plan = await hub.plan(f"bundle:{source}#lab/a")
    assert (plan.id, plan.licence.name, plan.refusals) == ("lab/a", "Apache-2.0", ())
    model = await hub.add(plan)
    assert model.source.startswith("file:")
    assert model.sha256 == sha256(gguf({"general.name": "lab/a", "general.license": "apache-2.0"}))
    with pytest.raises(InvalidRequest, match="lab/a, b"):
        await hub.plan(f"bundle:{source}")
    with pytest.raises(NotFound, match="lab/a, b"):
        await hub.plan(f"bundle:{source}#c")


async def test_the_terms_are_asked_about_again(bundle: tuple[Hub, Path], make_hub: MakeHub) -> None:
    strict = make_hub()
    plan = await strict.plan(f"bundle:{bundle[1]}#b")
    assert plan.needs_licence_acceptance
    with pytest.raises(PermissionDenied):
        await strict.add(plan)


def rewritten(place: Path, change: Any) -> None:
    """The bundle with each member handed to `change(name, data)`, which gives the new data or None."""
    with tarfile.open(place) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(place, "w") as archive:
        for name, data in members:
            new = change(name, data)
            if new is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(new)
                archive.addfile(entry, io.BytesIO(new))


async def test_a_tampered_model_is_refused_by_name(bundle: tuple[Hub, Path], tmp_path: Path) -> None:
    hub, place = bundle
    rewritten(place, lambda name, data: data[:-1] + b"!" if name.endswith("a.gguf") else data)
    with pytest.raises(Refused, match=r"a\.gguf.*SHA-256"):
        await hub.add(await hub.plan(f"bundle:{place}#lab/a"))
    done = install(unpacked(place, tmp_path / "un"), "--verify")
    assert (done.returncode, "models/lab%2Fa/a.gguf" in done.stderr) == (1, True)
    assert "not the file that was bundled" in done.stderr


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "models/../../x", "a\\b", "c:/x", "", "a//b"])
async def test_a_manifest_with_a_path_trick_is_refused(bundle: tuple[Hub, Path], tmp_path: Path, name: str) -> None:
    hub, place = bundle

    def trick(member: str, data: bytes) -> bytes:
        if not member.endswith("manifest.json"):
            return data
        manifest = json.loads(data)
        (file,) = [each for each in manifest["files"] if each["path"].endswith("a.gguf")]
        file["path"] = manifest["models"][0]["files"][0]["path"] = name
        return json.dumps(manifest).encode()

    rewritten(place, trick)
    with pytest.raises(Refused):
        await hub.plan(f"bundle:{place}#lab/a")
    done = install(unpacked(place, tmp_path / "un"), "--verify")
    assert done.returncode == 1
    assert "Do not use this bundle" in done.stderr
    assert not _is_plain(name)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "wheels/evil-1.0-py3-none-any.whl").write_bytes(b"x"), "evil-1.0.*not listed"),
        (lambda folder: (folder / "README.txt").unlink(), "README.txt.*missing"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "link.*it is a link"),
        (lambda folder: (folder / "requirements.txt").write_text("x"), "requirements.txt.*not the file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json.*cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 9}'), "another release"),
    ],
)
async def test_the_installer_refuses_what_is_not_as_bundled(
    bundle: tuple[Hub, Path], tmp_path: Path, harm: Any, said: str
) -> None:
    folder = unpacked(bundle[1], tmp_path / "un")
    assert install(folder, "--verify").returncode == 0
    harm(folder)
    done = install(folder, "--into", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert not (tmp_path / "venv").exists(), "nothing was begun"
    assert re.search(said, done.stderr.replace("\n", " "))


async def test_the_installer_writes_nowhere_it_was_not_told(bundle: tuple[Hub, Path], tmp_path: Path) -> None:
    folder = unpacked(bundle[1], tmp_path / "un")
    kept = tmp_path / "mine"
    kept.mkdir()
    (kept / "thesis.txt").write_text("years of work")
    assert "no virtual environment" in install(folder, "--into", str(kept)).stderr
    assert (kept / "thesis.txt").read_text() == "years of work"
    assert "inside the bundle" in install(folder, "--into", str(folder / "venv")).stderr


async def test_a_bundle_for_another_python_says_which(bundle: tuple[Hub, Path], tmp_path: Path) -> None:
    def other(name: str, data: bytes) -> bytes:
        return data.replace(b'"python": "3.', b'"python": "2.') if name.endswith("manifest.json") else data

    rewritten(bundle[1], other)
    done = install(unpacked(bundle[1], tmp_path / "un"), "--into", str(tmp_path / "venv"))
    assert (done.returncode, "for Python 2." in done.stderr) == (1, True)


async def test_a_damaged_blob_is_found_while_it_is_copied(make_hub: MakeHub, tmp_path: Path, packages: None) -> None:
    hub = make_hub()
    file = tmp_path / "a.gguf"
    file.write_bytes(gguf())
    await hub.add(await hub.plan(f"file:{file}"))
    content = await hub.contents("a")
    stored = content[1][0][1]
    stored.chmod(0o644)
    stored.write_bytes(gguf()[:-1] + b"!")
    place = tmp_path / "out.tar"
    with pytest.raises(Refused, match="damaged"):
        await make_bundle(place, [content], Target(), tmp_path, SystemClock(), lambda _: None)
    assert not place.exists()


async def test_a_services_model_has_nothing_to_carry(make_hub: MakeHub, tmp_path: Path, packages: None) -> None:
    hub = make_hub()
    await hub.add(await hub.plan("upstream:http://127.0.0.1:9/v1#gpt"))
    with pytest.raises(Refused, match="no files to carry"):
        await make_bundle(
            tmp_path / "o.tar", [await hub.contents("gpt")], Target(), tmp_path, SystemClock(), lambda _: None
        )


def test_an_installation_becomes_its_wheel_again_unless_it_was_changed(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, "leaf", "1.0")
    with zipfile.ZipFile(wheel) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    venv.create(tmp_path / "v", with_pip=False)
    site = next((tmp_path / "v" / "lib").glob("python*/site-packages"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    installed = PathDistribution(site / "leaf-1.0.dist-info")
    out = tmp_path / "out"
    out.mkdir()
    again = repack(installed, out)
    assert again.name == wheel.name
    with zipfile.ZipFile(again) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")} == {
            name: data for name, data in names.items() if not name.endswith("RECORD")
        }
    (site / "leaf.py").write_text("x = 2\n")
    with pytest.raises(Refused, match=r"leaf\.py.*not as it was installed"):
        repack(installed, out)
