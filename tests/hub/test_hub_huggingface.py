"""The hub's protocol, replayed: description, redirect to another host, gated files, hashes that must hold."""

import hashlib
from typing import Any

import pytest
from aiohttp import web
from hub_files import gguf, safetensors, sha256
from hub_kit import MakeHub
from hub_ranges import ranged

from dayspring.contracts.models import Ability
from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused
from loopback import Serve

COMMIT = "c" * 40
REPO = "owner/name"


class Hugging:
    """One repository. Large files answer with a redirect to a second server, as the real hub does."""

    def __init__(self, files: dict[str, bytes], *, gated: str | bool = False, token: str = "", **card: Any) -> None:
        self.files = files
        self.gated = gated
        self.token = token
        self.card = card
        self.stored = dict(files)
        self.cdn = ""
        self.secrets: list[tuple[str, str]] = []
        self.linked: dict[str, str] = {}
        self.commit = COMMIT
        self.private = bool(token)
        """Whether the description, too, needs the token. A gated repository is described to everyone."""

    def is_large(self, name: str) -> bool:
        return name.endswith((".gguf", ".safetensors", ".bin"))

    async def describe(self, request: web.Request) -> web.Response:
        self.secrets.append(("hub", request.headers.get("Authorization", "")))
        if request.match_info["revision"] not in ("main", "v1", COMMIT):
            return web.json_response({"error": "Invalid rev id"}, status=404)
        if self.private and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response(
                {"error": "Access is restricted"}, status=401, headers={"X-Error-Code": "GatedRepo"}
            )
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_oid(data)}
            if self.is_large(name):
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return web.json_response(
            {"id": REPO, "sha": COMMIT, "gated": self.gated, "cardData": self.card, "siblings": siblings}
        )

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        self.secrets.append(("hub", request.headers.get("Authorization", "")))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=403, headers={"X-Error-Code": "GatedRepo"})
        headers = {"X-Repo-Commit": self.commit}
        if self.is_large(name):
            headers["X-Linked-Etag"] = f'"{self.linked.get(name, sha256(self.files[name]))}"'
            headers["X-Linked-Size"] = str(len(self.files[name]))
            return web.Response(status=302, headers={**headers, "Location": f"{self.cdn}/blob/{name}?signature=1"})
        return ranged(request, self.stored[name], headers)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        self.secrets.append(("cdn", request.headers.get("Authorization", "")))
        return ranged(request, self.stored[request.match_info["file"]], {})

    async def start(self, serve: Serve) -> str:
        far = web.Application()
        far.router.add_get("/blob/{file:.+}", self.blob)
        self.cdn = await serve(far)
        app = web.Application()
        app.router.add_get("/api/models/owner/name/revision/{revision}", self.describe)
        app.router.add_get(f"/{REPO}/resolve/{COMMIT}/{{file:.+}}", self.resolve)
        return await serve(app)


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


async def test_a_model_comes_with_its_commit_licence_and_hash(make_hub: MakeHub, serve: Serve) -> None:
    data = gguf()
    hugging = Hugging({"README.md": b"# hi", "Model-Q4.gguf": data}, token="t0p", license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve), hf_token="t0p")
    plan = await hub.plan(f"hf:{REPO}")
    assert plan.pinned == f"hf:{REPO}@{COMMIT}"
    assert [file.path for file in plan.files] == ["Model-Q4.gguf"]
    assert (plan.licence.name, plan.needs_licence_acceptance) == ("MIT", False)
    assert (plan.download_bytes, plan.engine, plan.context_tokens) == (len(data), "runner", 2048)
    assert plan.refusals == ()
    model = await hub.add(plan)
    assert model.sha256 == sha256(data)
    assert model.source == f"hf:{REPO}@{COMMIT}"
    assert model.abilities == (Ability.CHAT, Ability.COMPLETION)
    assert {secret for where, secret in hugging.secrets if where == "cdn"} == {""}
    assert {secret for where, secret in hugging.secrets if where == "hub"} == {"Bearer t0p"}


@pytest.mark.parametrize(("token", "remedy"), [("", "set DAYSPRING_HF_TOKEN"), ("other", "Accept its terms at")])
@pytest.mark.parametrize("private", [True, False])
async def test_a_gated_model_says_how_to_get_in(
    make_hub: MakeHub, serve: Serve, token: str, remedy: str, private: bool
) -> None:
    hugging = Hugging({"m.gguf": gguf()}, gated="manual", token="t0p")
    hugging.private = private
    endpoint = await hugging.start(serve)
    hub = make_hub(hf_endpoint=endpoint, hf_token=token)
    with pytest.raises(PermissionDenied, match=remedy) as caught:
        await hub.plan(f"hf:{REPO}")
    assert f"{endpoint}/{REPO}" in caught.value.message
    assert "t0p" not in caught.value.message


async def test_bytes_other_than_the_description_says_are_refused(make_hub: MakeHub, serve: Serve) -> None:
    hugging = Hugging({"m.gguf": gguf()}, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    plan = await hub.plan(f"hf:{REPO}")
    hugging.stored["m.gguf"] = gguf()[:-1] + b"!"
    with pytest.raises(Refused, match="another SHA-256"):
        await hub.add(plan)
    assert await hub.list() == []


async def test_a_hub_that_changes_its_mind_about_the_hash_is_refused(make_hub: MakeHub, serve: Serve) -> None:
    hugging = Hugging({"m.gguf": gguf()}, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    plan = await hub.plan(f"hf:{REPO}")
    hugging.linked["m.gguf"] = "0" * 64
    with pytest.raises(Refused, match="X-Linked-Etag"):
        await hub.add(plan)
    hugging.linked.clear()
    hugging.commit = "d" * 40
    with pytest.raises(Refused, match="X-Repo-Commit"):
        await hub.add(plan)


async def test_a_small_file_is_held_to_the_commits_git_hash(make_hub: MakeHub, serve: Serve) -> None:
    config = b'{"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu"}'
    files = {"config.json": config, "vocab.txt": b"a\nb\n", "model.safetensors": safetensors()}
    hugging = Hugging(files, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    plan = await hub.plan(f"hf:{REPO}")
    assert plan.conversion.startswith("BERT")
    assert plan.abilities == (Ability.EMBEDDING,)
    hugging.stored["vocab.txt"] = b"a\nc\n"
    with pytest.raises(Refused, match="not the file of the commit"):
        await hub.add(plan)


async def test_several_models_must_be_told_apart(make_hub: MakeHub, serve: Serve) -> None:
    hugging = Hugging({"a-Q4.gguf": gguf(), "a-Q8.gguf": gguf()}, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    with pytest.raises(InvalidRequest, match=r"a-Q4\.gguf, a-Q8\.gguf"):
        await hub.plan(f"hf:{REPO}")
    plan = await hub.plan(f"hf:{REPO}@v1#a-Q8.gguf")
    assert plan.pinned == f"hf:{REPO}@{COMMIT}#a-Q8.gguf"
    assert plan.id == "a-q8"


async def test_pickles_are_left_out_and_refused_when_alone(make_hub: MakeHub, serve: Serve) -> None:
    hugging = Hugging({"pytorch_model.bin": b"\x80\x02.", "config.json": b"{}"}, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    with pytest.raises(Refused, match="pickle only"):
        await hub.plan(f"hf:{REPO}")
    hugging.files["model.safetensors"] = hugging.stored["model.safetensors"] = safetensors()
    plan = await hub.plan(f"hf:{REPO}")
    assert [file.path for file in plan.files] == ["model.safetensors", "config.json"]
    assert "pytorch_model.bin" in plan.warnings[0]
    assert "No installed engine" in plan.refusals[0]
    assert "GGUF" in plan.refusals[0]
    assert "BERT" in plan.refusals[0]


async def test_remote_code_is_refused_before_the_download(make_hub: MakeHub, serve: Serve) -> None:
    hugging = Hugging({"config.json": b'{"auto_map": {"A": "m.A"}}', "model.safetensors": safetensors()}, license="mit")
    hub = make_hub(hf_endpoint=await hugging.start(serve))
    plan = await hub.plan(f"hf:{REPO}")
    assert "auto_map" in plan.refusals[0]
    with pytest.raises(Refused, match="auto_map"):
        await hub.add(plan)


async def test_a_revision_that_is_not_there_is_not_found(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(hf_endpoint=await Hugging({"m.gguf": gguf()}).start(serve))
    with pytest.raises(NotFound, match="v9"):
        await hub.plan(f"hf:{REPO}@v9")


@pytest.mark.parametrize(
    ("card", "licence", "asks"),
    [
        ({"license": "apache-2.0"}, "Apache-2.0", False),
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0", True),
        (
            {"license": "other", "license_name": "house-rules", "license_link": "https://x.example/l"},
            "house-rules",
            True,
        ),
        ({}, "Apache-2.0", False),  # the file's own header says so
    ],
)
async def test_the_licence_of_the_card_decides_who_is_asked(
    make_hub: MakeHub, serve: Serve, card: dict[str, str], licence: str, asks: bool
) -> None:
    hub = make_hub(hf_endpoint=await Hugging({"m.gguf": gguf()}, **card).start(serve))
    plan = await hub.plan(f"hf:{REPO}")
    assert (plan.licence.name, plan.needs_licence_acceptance) == (licence, asks)
