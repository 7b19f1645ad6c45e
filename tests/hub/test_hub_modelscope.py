"""ModelScope's protocol, replayed: two interfaces, a file list with hashes, redirects to another host, gated files."""

from typing import Any

import pytest
from aiohttp import web
from hub_files import gguf, safetensors, sha256
from hub_kit import MakeHub
from hub_ranges import ranged

from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused, Unavailable
from loopback import Serve

REPO = "owner/name"


class Scope:
    """One repository. Its files come by a redirect to a second server, as from the real hub's object store."""

    def __init__(self, files: dict[str, bytes], *, token: str = "", openapi: bool = True, **model: Any) -> None:
        self.files = dict(files)
        self.stored = dict(files)
        self.hashes: dict[str, str] = {}
        self.token = token
        self.openapi = openapi
        self.model = model
        self.cdn = ""
        self.secrets: list[tuple[str, str, str]] = []
        self.revisions: set[str] = set()

    def _note(self, place: str, request: web.Request) -> bool:
        headers = request.headers
        self.secrets.append((place, headers.get("Authorization", ""), headers.get("Cookie", "")))
        return not self.token or headers.get("Authorization") == f"Bearer {self.token}"

    async def describe(self, request: web.Request) -> web.Response:
        if not self.openapi:
            return web.json_response({"success": False}, status=404)
        self._note("hub", request)
        model = {"id": REPO, "license": "", "downloads": 3, "tasks": [], "tags": [], "gated": bool(self.token)}
        return web.json_response({"success": True, "data": model | self.model, "request_id": "r"})

    async def describe_old(self, request: web.Request) -> web.Response:
        return web.json_response({"Code": 200, "Success": True, "Data": {"Name": "name", "License": "mit"}})

    async def list_files(self, request: web.Request) -> web.Response:
        if not self._note("hub", request):
            return web.json_response({"Code": 403, "Message": "no permission", "Success": False}, status=403)
        if request.query["Revision"] not in ("master", "v1"):
            return web.json_response({"Code": 10010205001, "Message": "not found", "Success": False}, status=404)
        assert request.query["Recursive"] == "true"
        listed = [
            {
                "Name": name.rsplit("/", 1)[-1],
                "Path": name,
                "Type": "blob",
                "Size": len(data),
                "Sha256": self.hashes.get(name, sha256(data)),
                "Revision": "a" * 40,
                "IsLFS": len(data) > 100,
            }
            for name, data in self.files.items()
        ]
        listed.append({"Name": "folder", "Path": "folder", "Type": "tree", "Size": 0, "Sha256": ""})
        return web.json_response({"Code": 200, "Success": True, "Data": {"Files": listed, "IsVisual": 0}})

    async def give(self, request: web.Request) -> web.StreamResponse:
        if not self._note("hub", request):
            return web.json_response({"Code": 403, "Success": False}, status=403)
        self.revisions.add(request.query["Revision"])
        return web.Response(status=302, headers={"Location": f"{self.cdn}/store?n={request.query['FilePath']}"})

    async def store(self, request: web.Request) -> web.StreamResponse:
        self._note("cdn", request)
        return ranged(request, self.stored[request.query["n"]])

    async def start(self, serve: Serve) -> str:
        far = web.Application()
        far.router.add_get("/store", self.store)
        self.cdn = await serve(far)
        app = web.Application()
        app.router.add_get(f"/openapi/v1/models/{REPO}", self.describe)
        app.router.add_get(f"/api/v1/models/{REPO}", self.describe_old)
        app.router.add_get(f"/api/v1/models/{REPO}/repo/files", self.list_files)
        app.router.add_get(f"/api/v1/models/{REPO}/repo", self.give)
        return await serve(app)


async def test_a_model_comes_with_its_licence_and_hash(make_hub: MakeHub, serve: Serve) -> None:
    scope = Scope({"README.md": b"# hi", "m-q4.gguf": gguf()}, token="t0p", license="Apache License 2.0")
    hub = make_hub(modelscope_endpoint=await scope.start(serve), modelscope_token="t0p")
    plan = await hub.plan(f"modelscope:{REPO}@v1")
    assert plan.pinned == f"modelscope:{REPO}@v1"
    assert (plan.id, plan.licence.name, plan.needs_licence_acceptance) == ("name", "Apache-2.0", False)
    assert any("let in" in warning for warning in plan.warnings)
    model = await hub.add(plan)
    assert model.sha256 == sha256(gguf())
    assert scope.revisions == {"v1"}
    assert {(a, c) for where, a, c in scope.secrets if where == "hub"} == {("Bearer t0p", "m_session_id=t0p")}
    assert {(a, c) for where, a, c in scope.secrets if where == "cdn"} == {("", "")}


async def test_an_older_installation_is_understood_too(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(modelscope_endpoint=await Scope({"m.gguf": gguf()}, openapi=False).start(serve))
    assert (await hub.plan(f"modelscope:{REPO}")).licence.name == "MIT"


@pytest.mark.parametrize(("token", "remedy"), [("", "set DAYSPRING_MODELSCOPE_TOKEN"), ("no", "Accept its terms at")])
async def test_a_gated_model_says_how_to_get_in(make_hub: MakeHub, serve: Serve, token: str, remedy: str) -> None:
    endpoint = await Scope({"m.gguf": gguf()}, token="t0p").start(serve)
    hub = make_hub(modelscope_endpoint=endpoint, modelscope_token=token)
    with pytest.raises(PermissionDenied, match=remedy) as caught:
        await hub.plan(f"modelscope:{REPO}")
    assert f"{endpoint}/models/{REPO}" in caught.value.message


async def test_other_bytes_than_listed_are_refused(make_hub: MakeHub, serve: Serve) -> None:
    scope = Scope({"m.gguf": gguf()}, license="mit")
    hub = make_hub(modelscope_endpoint=await scope.start(serve))
    plan = await hub.plan(f"modelscope:{REPO}")
    scope.stored["m.gguf"] = gguf()[:-1] + b"!"
    with pytest.raises(Refused, match="another SHA-256"):
        await hub.add(plan)
    assert await hub.list() == []


async def test_a_file_without_a_hash_is_refused(make_hub: MakeHub, serve: Serve) -> None:
    scope = Scope({"m.gguf": gguf()}, license="mit")
    scope.hashes["m.gguf"] = ""
    hub = make_hub(modelscope_endpoint=await scope.start(serve))
    with pytest.raises(Refused, match="no hash"):
        await hub.plan(f"modelscope:{REPO}")


@pytest.mark.parametrize("name", ["../../etc/passwd.gguf", "/etc/x.gguf", "a/../../x.gguf", "a\\b.gguf"])
async def test_a_listed_name_that_leaves_its_folder_is_refused(make_hub: MakeHub, serve: Serve, name: str) -> None:
    hub = make_hub(modelscope_endpoint=await Scope({name: gguf()}, license="mit").start(serve))
    with pytest.raises(Refused, match=r"its name"):
        await hub.plan(f"modelscope:{REPO}")


async def test_pickles_and_remote_code_are_refused(make_hub: MakeHub, serve: Serve) -> None:
    scope = Scope({"pytorch_model.bin": b"\x80\x02."}, license="mit")
    hub = make_hub(modelscope_endpoint=await scope.start(serve))
    with pytest.raises(Refused, match="pickle only"):
        await hub.plan(f"modelscope:{REPO}")
    code = b'{"auto_map": {"AutoModel": "m.M"}}'
    scope.files.update({"config.json": code, "model.safetensors": safetensors()})
    scope.stored.update(scope.files)
    assert "auto_map" in (await hub.plan(f"modelscope:{REPO}")).refusals[0]


async def test_what_is_not_there_is_named(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(modelscope_endpoint=await Scope({"a.gguf": gguf(), "b.gguf": gguf()}).start(serve))
    with pytest.raises(NotFound, match="revision"):
        await hub.plan(f"modelscope:{REPO}@v9")
    with pytest.raises(InvalidRequest, match=r"a\.gguf, b\.gguf"):
        await hub.plan(f"modelscope:{REPO}")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"Data": {"Files": 3}}', b"[" * 99_999])
async def test_nonsense_in_place_of_a_list_is_an_error_of_ours(make_hub: MakeHub, serve: Serve, body: bytes) -> None:
    async def say(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", say)
    hub = make_hub(modelscope_endpoint=await serve(app))
    with pytest.raises(Unavailable):
        await hub.plan(f"modelscope:{REPO}")
