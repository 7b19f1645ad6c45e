"""A registry as npm asks it, replayed: versions, tarballs, integrity, scopes, tokens; and npm's own files."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hub_files import gguf, sha256
from hub_kit import MakeHub

from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.sources.npm_config import npm_config
from loopback import Serve


def tarball(members: dict[str, bytes], top: str = "package/") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(top + name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Registry:
    """One package, `@lab/models` at 1.2.0. `versions` says whether `/<package>/<version>` is served."""

    def __init__(self, members: dict[str, bytes], *, token: str = "", versions: bool = True, **more: Any) -> None:
        self.data = self.sent = tarball(members)
        self.unpacked = sum(len(data) for data in members.values())
        self.token = token
        self.versions = versions
        self.more = more
        self.secrets: list[tuple[str, str]] = []
        self.fetched = 0
        self.place = ""

    def manifest(self) -> dict[str, Any]:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.data).digest()).decode()
        dist = {"tarball": f"{self.place}/t/models-1.2.0.tgz", "integrity": integrity, "unpackedSize": self.unpacked}
        fields = {"name": "@lab/models", "version": "1.2.0", "license": "MIT", "scripts": {"install": "evil"}}
        return fields | self.more | {"dist": dist | self.more.get("dist", {})}

    async def start(self, serve: Serve, *, elsewhere: bool = False) -> str:
        def allowed(request: web.Request, where: str) -> bool:
            self.secrets.append((where, request.headers.get("Authorization", "")))
            return not self.token or request.headers.get("Authorization") == f"Bearer {self.token}"

        async def describe(request: web.Request) -> web.Response:
            if not allowed(request, "registry"):
                return web.json_response({"error": "forbidden"}, status=401)
            name, _, version = request.raw_path.removeprefix("/").partition("/")
            if name.lower() != "@lab%2fmodels":
                return web.json_response({"error": "not found"}, status=404)
            if not version:
                return web.json_response({"name": "@lab/models", "versions": {"1.2.0": self.manifest()}})
            if not self.versions or version != "1.2.0":
                return web.json_response({"error": "version not found"}, status=404 if self.versions else 405)
            return web.json_response(self.manifest())

        async def give(request: web.Request) -> web.Response:
            self.fetched += "Range" not in request.headers
            allowed(request, "store")
            return web.Response(body=self.sent, headers={"ETag": '"t"'})

        app = web.Application()
        store = web.Application() if elsewhere else app
        store.router.add_get("/t/models-1.2.0.tgz", give)
        app.router.add_get("/{path:.*}", describe)
        url = await serve(app)
        self.place = await serve(store) if elsewhere else url
        return url


@pytest.mark.parametrize("versions", [True, False])
async def test_a_file_of_a_package_is_taken_out_and_nothing_run(
    make_hub: MakeHub, serve: Serve, versions: bool
) -> None:
    registry = Registry({"package.json": b"{}", "weights/M.gguf": gguf(), "x.js": b"throw 1"}, versions=versions)
    hub = make_hub(npm_registry=await registry.start(serve))
    plan = await hub.plan("npm:@lab/models@1.2.0#weights/M.gguf")
    assert (plan.pinned, plan.id, plan.owned_by) == ("npm:@lab/models@1.2.0#weights/M.gguf", "m", "lab")
    assert (plan.licence.name, plan.licence.said_by, plan.engine) == ("MIT", "package", "runner")
    assert plan.context_tokens == 2048
    model = await hub.add(plan)
    assert model.sha256 == sha256(gguf())
    assert registry.fetched == 1, "what was fetched for the plan is used"


async def test_the_one_model_of_a_package_need_not_be_named(make_hub: MakeHub, serve: Serve) -> None:
    registry = Registry({"package.json": b"{}", "a/b/M.gguf": gguf()})
    hub = make_hub(npm_registry=await registry.start(serve))
    assert [file.path for file in (await hub.plan("npm:@lab/models@1.2.0")).files] == ["M.gguf"]


async def test_a_large_package_is_not_fetched_for_its_plan(make_hub: MakeHub, serve: Serve) -> None:
    registry = Registry({"M.gguf": gguf()}, dist={"unpackedSize": 1 << 30})
    hub = make_hub(npm_registry=await registry.start(serve))
    with pytest.raises(InvalidRequest, match="Name one file"):
        await hub.plan("npm:@lab/models@1.2.0")
    plan = await hub.plan("npm:@lab/models@1.2.0#M.gguf")
    assert registry.fetched == 0
    assert "known only after the download" in plan.warnings[0]
    assert (await hub.add(plan)).sha256 == sha256(gguf())


async def test_a_tarball_with_other_bytes_is_refused_and_not_kept(
    make_hub: MakeHub, serve: Serve, tmp_path: Path
) -> None:
    registry = Registry({"M.gguf": gguf()})
    registry.sent = tarball({"M.gguf": gguf()[:-1] + b"!"})
    hub = make_hub(npm_registry=await registry.start(serve))
    with pytest.raises(Refused, match="SHA-512"):
        await hub.plan("npm:@lab/models@1.2.0#M.gguf")
    assert not [file for file in (tmp_path / "home" / "blobs" / "sha256").rglob("*") if file.is_file()]


async def test_a_package_with_a_path_trick_is_refused(make_hub: MakeHub, serve: Serve) -> None:
    registry = Registry({"../../x.gguf": gguf()})
    hub = make_hub(npm_registry=await registry.start(serve))
    with pytest.raises(Refused, match="leaves the folder"):
        await hub.plan("npm:@lab/models@1.2.0")


async def test_a_missing_version_names_those_there_are(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(npm_registry=await Registry({"M.gguf": gguf()}).start(serve))
    with pytest.raises(NotFound, match=r"1\.2\.0"):
        await hub.plan("npm:@lab/models@9.9.9#M.gguf")
    with pytest.raises(NotFound, match="npm package"):
        await hub.plan("npm:other@1.0.0#M.gguf")


async def test_the_token_goes_to_the_registry_only(
    make_hub: MakeHub, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = Registry({"M.gguf": gguf()}, token="s3cret")
    url = await registry.start(serve, elsewhere=True)
    with pytest.raises(PermissionDenied, match="npm login"):
        await make_hub(npm_registry=url).plan("npm:@lab/models@1.2.0#M.gguf")
    registry.secrets.clear()
    await make_hub(npm_registry=url, npm_token="s3cret").plan("npm:@lab/models@1.2.0#M.gguf")
    assert set(registry.secrets) == {("registry", "Bearer s3cret"), ("store", "")}
    registry.secrets.clear()
    # And as npm itself is told: in the user's file, by place.
    monkeypatch.setenv("NPM_SECRET", "s3cret")
    place = url.removeprefix("http:")
    (tmp_path / ".npmrc").write_text(f"@lab:registry={url}/\n{place}/:_authToken=${{NPM_SECRET}}\n")
    await make_hub().plan("npm:@lab/models@1.2.0#M.gguf")
    assert {secret for where, secret in registry.secrets if where == "registry"} == {"Bearer s3cret"}
    assert {secret for where, secret in registry.secrets if where == "store"} <= {""}


@pytest.mark.parametrize("registry", ["http://registry.example", "https://ann:pw@registry.example"])
async def test_a_registry_without_encryption_or_with_a_password_is_refused(make_hub: MakeHub, registry: str) -> None:
    with pytest.raises(Refused, match=r"without encryption|name or password"):
        await make_hub(npm_registry=registry).plan("npm:a@1.0.0#M.gguf")


def test_npms_files_are_read_as_npm_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = tmp_path / "npmrc"
    machine.write_text("registry = https://machine.example/\ncafile=/etc/ca.pem\n; registry=no\n")
    monkeypatch.setenv("npm_config_globalconfig", str(machine))
    config = npm_config(Settings())
    assert config.registry("left") == "https://machine.example"
    assert config.certificates == "/etc/ca.pem"
    password = base64.b64encode(b"pw").decode()
    (tmp_path / ".npmrc").write_text(
        'registry="https://user.example/npm"\n//user.example/npm/:_authToken=t\n'
        f"//old.example/:username=ann\n//old.example/:_password={password}\n//pair.example/:_auth=YTpi\n"
    )
    config = npm_config(Settings())
    assert config.registry("left") == "https://user.example/npm"
    assert config.secret_for("https://user.example/npm/left/-/left-1.0.0.tgz") == {"Authorization": "Bearer t"}
    assert config.secret_for("https://user.example/other") == {}
    assert config.secret_for("https://user.example.evil/npm/left") == {}
    assert (
        config.secret_for("https://old.example/x")["Authorization"] == "Basic " + base64.b64encode(b"ann:pw").decode()
    )
    assert config.secret_for("https://pair.example/x") == {"Authorization": "Basic YTpi"}
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://env.example")
    assert npm_config(Settings()).registry("left") == "https://env.example"
    monkeypatch.setenv("DAYSPRING_NPM_REGISTRY", "https://mine.example/r/")
    assert npm_config(Settings()).registry("@any/thing") == "https://mine.example/r"


def test_without_npm_the_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="DAYSPRING_NPM_REGISTRY"):
        npm_config(Settings()).registry("left")
