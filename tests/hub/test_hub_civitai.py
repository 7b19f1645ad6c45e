"""Civitai's public interface, replayed: versions, permissions, scanners, sign-in pages, redirects to another host."""

from typing import Any

import pytest
from aiohttp import web
from hub_files import gguf, safetensors, sha256
from hub_kit import MakeHub
from hub_ranges import ranged

from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused
from dayspring.hub.licences import commercial_use
from dayspring.hub.sources.civitai_permissions import licence_of, permissions
from loopback import Serve


class Civitai:
    """Model 7 with version 42, which has one file."""

    def __init__(self, data: bytes, name: str = "Fine Model_v2.gguf", *, token: str = "", **more: Any) -> None:
        self.data = self.sent = data
        self.token = token
        self.login = "page"
        """How a missing key is told: `page` redirects to a sign-in page, `refuse` answers 401."""
        self.file: dict[str, Any] = {
            "id": 5,
            "name": name,
            "type": "Model",
            "sizeKB": len(data) / 1024,
            "metadata": {"format": "GGUF", "fp": "fp16", "size": "full"},
            "pickleScanResult": "Success",
            "virusScanResult": "Success",
            "hashes": {"AutoV2": sha256(data)[:10].upper(), "SHA256": sha256(data).upper(), "CRC32": "0", "BLAKE3": ""},
            "primary": True,
            "downloadUrl": "https://elsewhere.example/api/download/models/42?type=Model&format=GGUF",
        }
        self.version: dict[str, Any] = {
            "id": 42,
            "modelId": 7,
            "name": "v2",
            "baseModel": "Illustrious",
            "trainedWords": ["style of x"],
            "usageControl": "Download",
            "model": {"name": "Fine Model", "type": "Checkpoint", "nsfw": False},
            "files": [self.file],
        }
        self.model: dict[str, Any] = {
            "id": 7,
            "name": "Fine Model",
            "creator": {"username": "someone"},
            "allowCommercialUse": ["Image", "RentCivit", "Rent", "Sell"],
            "modelVersions": [{"id": 42}, {"id": 41}],
            **more,
        }
        self.cdn = ""
        self.secrets: list[tuple[str, str]] = []
        self.queries: list[str] = []

    async def give(self, request: web.Request) -> web.StreamResponse:
        self.secrets.append(("site", request.headers.get("Authorization", "")))
        self.queries.append(request.query_string)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            if self.login == "page":
                return web.Response(status=307, headers={"Location": "/login?reason=download-auth"})
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.Response(status=307, headers={"Location": f"{self.cdn}/bucket/file?X-Amz-Signature=1"})

    async def bucket(self, request: web.Request) -> web.StreamResponse:
        self.secrets.append(("cdn", request.headers.get("Authorization", "")))
        return ranged(request, self.sent)

    async def start(self, serve: Serve) -> str:
        async def version(request: web.Request) -> web.Response:
            self.secrets.append(("site", request.headers.get("Authorization", "")))
            if request.match_info["id"] != "42":
                return web.json_response({"error": "Model not found"}, status=404)
            return web.json_response(self.version)

        async def model(_: web.Request) -> web.Response:
            return web.json_response(self.model)

        async def login(_: web.Request) -> web.Response:
            return web.Response(text="<html>Sign in</html>", content_type="text/html")

        far = web.Application()
        far.router.add_get("/bucket/file", self.bucket)
        self.cdn = await serve(far)
        app = web.Application()
        app.router.add_get("/api/v1/model-versions/{id}", version)
        app.router.add_get("/api/v1/models/7", model)
        app.router.add_get("/api/download/models/42", self.give)
        app.router.add_get("/login", login)
        return await serve(app)


@pytest.mark.parametrize(
    "source", ["civitai:42", "civitai:models/7", "https://civitai.com/models/7/x?modelVersionId=42"]
)
async def test_a_version_comes_with_its_permissions_and_hash(make_hub: MakeHub, serve: Serve, source: str) -> None:
    site = Civitai(gguf(), token="k3y")
    hub = make_hub(civitai_endpoint=await site.start(serve), civitai_token="k3y")
    plan = await hub.plan(source)
    assert (plan.pinned, plan.owned_by, plan.needs_licence_acceptance) == ("civitai:42", "someone", False)
    assert plan.metadata["base_model"] == "Illustrious"
    assert plan.metadata["trained_words"] == ["style of x"]
    assert plan.refusals == ()
    model = await hub.add(plan)
    assert (model.id, model.sha256) == ("fine-model_v2", sha256(gguf()))
    assert model.metadata["base_model"] == "Illustrious"
    assert {secret for where, secret in site.secrets if where == "site"} == {"Bearer k3y"}
    assert {secret for where, secret in site.secrets if where == "cdn"} == {""}
    assert set(site.queries) == {"type=Model&format=GGUF"}


@pytest.mark.parametrize("login", ["page", "refuse"])
@pytest.mark.parametrize(("token", "remedy"), [("", "set DAYSPRING_CIVITAI_TOKEN"), ("other", "early access")])
async def test_a_file_for_the_signed_in_says_how_to_get_it(
    make_hub: MakeHub, serve: Serve, token: str, remedy: str, login: str
) -> None:
    site = Civitai(gguf(), token="k3y")
    site.login = login
    hub = make_hub(civitai_endpoint=await site.start(serve), civitai_token=token)
    with pytest.raises(PermissionDenied, match=remedy):
        await hub.plan("civitai:42")


async def test_a_sign_in_page_in_place_of_a_planned_file_is_understood(make_hub: MakeHub, serve: Serve) -> None:
    site = Civitai(gguf())
    hub = make_hub(civitai_endpoint=await site.start(serve))
    plan = await hub.plan("civitai:42")
    site.token = "k3y"
    with pytest.raises(PermissionDenied, match="set DAYSPRING_CIVITAI_TOKEN"):
        await hub.add(plan)


async def test_other_bytes_than_promised_are_refused(make_hub: MakeHub, serve: Serve) -> None:
    site = Civitai(gguf())
    hub = make_hub(civitai_endpoint=await site.start(serve))
    plan = await hub.plan("civitai:42")
    site.sent = gguf()[:-1] + b"!"
    with pytest.raises(Refused, match="another SHA-256"):
        await hub.add(plan)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"pickleScanResult": "Danger"}, "dangerous"),
        ({"virusScanResult": "Danger"}, "dangerous"),
        ({"metadata": {"format": "PickleTensor"}}, "pickle only"),
        ({"name": "m.ckpt"}, "pickle only"),
        ({"hashes": {"SHA256": "a" * 64, "AutoV2": "b" * 10}}, "contradict"),
        ({"name": "../../x.gguf\x00"}, "control characters"),
        ({"name": ".."}, "leaves the folder"),
    ],
)
async def test_what_breaks_a_rule_is_refused(
    make_hub: MakeHub, serve: Serve, change: dict[str, Any], rule: str
) -> None:
    site = Civitai(gguf())
    site.file.update(change)
    hub = make_hub(civitai_endpoint=await site.start(serve))
    with pytest.raises(Refused, match=rule):
        await hub.plan("civitai:42")


async def test_a_name_with_a_path_is_only_a_name(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(civitai_endpoint=await Civitai(gguf(), "../../../home/x/m.gguf").start(serve))
    assert [file.path for file in (await hub.plan("civitai:42")).files] == ["m.gguf"]


async def test_a_pickle_named_as_safetensors_is_refused_by_its_header(make_hub: MakeHub, serve: Serve) -> None:
    site = Civitai(b"\x80\x02." + bytes(200), "m.safetensors")
    hub = make_hub(civitai_endpoint=await site.start(serve))
    assert "pickle" in (await hub.plan("civitai:42")).refusals[0]


async def test_a_pickle_beside_is_left_for_the_plain_file(make_hub: MakeHub, serve: Serve) -> None:
    site = Civitai(safetensors(), "m.safetensors")
    pickle = {**site.file, "name": "m.ckpt", "metadata": {"format": "PickleTensor"}, "primary": True}
    site.version["files"] = [pickle, {**site.file, "primary": False}]
    hub = make_hub(civitai_endpoint=await site.start(serve))
    assert [file.path for file in (await hub.plan("civitai:42")).files] == ["m.safetensors"]
    with pytest.raises(Refused, match="it is a pickle"):
        await hub.plan("civitai:42#m.ckpt")
    with pytest.raises(InvalidRequest, match=r"m\.ckpt, m\.safetensors"):
        await hub.plan("civitai:42#other")


async def test_use_on_the_site_only_and_archived_models_are_refused(make_hub: MakeHub, serve: Serve) -> None:
    site = Civitai(gguf())
    hub = make_hub(civitai_endpoint=await site.start(serve))
    site.version["usageControl"] = "Generation"
    with pytest.raises(Refused, match="on the site only"):
        await hub.plan("civitai:42")
    site.version.update(usageControl="Download", files=[])
    with pytest.raises(NotFound, match="archived"):
        await hub.plan("civitai:42")
    with pytest.raises(NotFound, match="the version's, not the model's"):
        await hub.plan("civitai:7")


@pytest.mark.parametrize(
    ("allowed", "base", "verdict"),
    [
        (["Image", "RentCivit", "Rent", "Sell"], "SDXL 1.0", "yes"),
        (["Image", "Rent"], "SDXL 1.0", "yes"),
        (["Image", "RentCivit"], "SDXL 1.0", "no"),
        (["Rent"], "SDXL 1.0", "no"),
        ([], "SDXL 1.0", "no"),
        ("Sell", "", "yes"),
        ("Rent", "", "yes"),
        ("RentCivit", "", "no"),
        ("None", "", "no"),
        ("{Image,Rent}", "", "yes"),
        ("{Sell}", "", "no"),
        (["Image", "RentCivit", "Rent", "Sell"], "Flux.1 D", "no"),
        (None, "SDXL 1.0", "unknown"),
    ],
)
def test_permissions_become_a_verdict(allowed: object, base: str, verdict: str) -> None:
    licence = licence_of({"allowCommercialUse": allowed, "baseModel": base}, "page")
    assert commercial_use(licence).verdict == verdict


def test_permissions_are_told_in_order() -> None:
    assert permissions(["Sell", "Image", "Whatever"]) == ("Image", "Sell")


async def test_no_permission_to_sell_asks_for_an_acceptance(make_hub: MakeHub, serve: Serve) -> None:
    hub = make_hub(civitai_endpoint=await Civitai(gguf(), allowCommercialUse=["Image"]).start(serve))
    plan = await hub.plan("civitai:42")
    assert plan.needs_licence_acceptance
    with pytest.raises(PermissionDenied, match="accept-licence"):
        await hub.add(plan)
    await hub.add(plan, "ann@example.org")
    (accepted,) = await hub.acceptances()
    assert "Image" in accepted.licence
