"""Wounds of peers in what they load, one test each, against our real hub and loaders."""

import asyncio
import contextlib
import json
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
from aiohttp import web
from wounds_kit import ROOT, SOURCE, Bomb, Target, calls, hub_of, imports

from dayspring.core.errors import DayspringError, InvalidRequest
from dayspring.core.settings import Settings
from dayspring.server.house import House
from hub.hub_files import gguf, safetensors
from loopback import Serve


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt", "model.safetensors", "model.gguf", "model"])
async def test_a_pickle_is_not_loaded_whatever_its_name(target: Target, tmp_path: Path, name: str) -> None:
    """Xinference's torch.load without weights_only (0.15.0 to 1.4.1), ms-swift CVE-2025-50460: weights that run."""
    marker, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(marker)))
    hub = target.house.house.hub
    with pytest.raises(InvalidRequest):
        await hub.add(await hub.plan(f"file:{path}", "m", licence="mit"))
    archive = tmp_path / "zipped.pt"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("archive/data.pkl", path.read_bytes())
    with pytest.raises(InvalidRequest):
        await hub.add(await hub.plan(f"file:{archive}", "m", licence="mit"))
    assert not marker.exists()


def test_nothing_in_the_house_reads_a_pickle_or_runs_text() -> None:
    """The same, and Open WebUI CVE-2026-45395 (tools run in the server): no such call exists in our source."""
    dangerous = {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load",
        "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "marshal.load",
        "shelve.open", "joblib.load", "dill.loads", "cloudpickle.loads", "subprocess.getoutput",
        "numpy.load", "np.load",
    }  # fmt: skip
    assert [f"{path.name}: {name}" for path, name, _ in calls() if name in dangerous] == []
    assert {name for _, name in imports()} & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"} == set()
    shells = [path.name for path, _, call in calls() for word in call.keywords
              if word.arg == "shell" and getattr(word.value, "value", True)]  # fmt: skip
    assert shells == []
    assert len(SOURCE) > 150


def test_remote_code_cannot_be_asked_for() -> None:
    """Xinference issue 5023 (trust_remote_code hard-coded): the word is in our source only where it is refused."""
    words = [
        f"{path.name}:{number}"
        for path in SOURCE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if ("trust_remote_code" in line or "trust-remote-code" in line) and "re.compile" not in line
    ]
    assert words == []


async def test_auto_map_runs_no_code(target: Target, serve: Serve, tmp_path: Path) -> None:
    """vLLM CVE-2026-22807: `auto_map` in config.json runs the repository's Python even without trust_remote_code."""
    marker = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n".encode()
    config = {"architectures": ["Evil"], "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    tokenizer = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    files = {"model.safetensors": safetensors(), "config.json": json.dumps(config).encode(), "evil.py": code,
             "tokenizer_config.json": json.dumps(tokenizer).encode()}  # fmt: skip
    settings = Settings(home=tmp_path / "second", default_pack=False, hf_endpoint=await serve(hub_of(files)))
    with House.open(settings) as house:
        try:
            await house.hub.add(await house.hub.plan("hf:owner/name"))
        except DayspringError:
            pass
        else:
            taken = list((settings.home / "models").rglob("*.py"))
            assert taken == []
        await house.hub.close()
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hub = target.house.house.hub
    with contextlib.suppress(DayspringError):
        await hub.add(await hub.plan(f"file:{folder}", licence="mit"))
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["../../../evil.gguf", "/tmp/evil.gguf", "a/../../../evil.gguf", "..\\evil.gguf", "a\x00.gguf"]
)
async def test_a_path_in_remote_metadata_leaves_no_folder(serve: Serve, tmp_path: Path, name: str) -> None:
    """ostris/ai-toolkit issue 852: the file name from the hub's answer is joined to a path: an arbitrary write."""
    home = tmp_path / "deep" / "er" / "home"
    settings = Settings(home=home, default_pack=False, hf_endpoint=await serve(hub_of({name: gguf()})))
    before = _outside(tmp_path, home)
    with House.open(settings) as house:
        with pytest.raises(DayspringError):
            await house.hub.add(await house.hub.plan("hf:owner/name", "m"))
        assert await house.hub.list() == []
        await house.hub.close()
    assert _outside(tmp_path, home) == before


async def test_a_civitai_file_name_is_a_name(serve: Serve, tmp_path: Path) -> None:
    """The same, of the hub it was found on."""

    async def answer(request: web.Request) -> web.Response:
        if "/api/download" in request.path:
            return web.Response(body=gguf())
        files = [{"id": 1, "name": "../../../../evil.gguf", "type": "Model", "primary": True, "sizeKB": 1,
                  "metadata": {"format": "GGUF"}, "hashes": {}, "pickleScanResult": "Success",
                  "virusScanResult": "Success", "downloadUrl": "file:///etc/passwd"}]  # fmt: skip
        return web.json_response({"id": 7, "modelId": 8, "model": {"type": "Checkpoint"}, "files": files,
                                  "allowCommercialUse": ["Sell"]})  # fmt: skip

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    home = tmp_path / "deep" / "er" / "home"
    settings = Settings(home=home, default_pack=False, civitai_endpoint=await serve(app))
    before = _outside(tmp_path, home)
    with House.open(settings) as house:
        with contextlib.suppress(DayspringError):
            await house.hub.add(await house.hub.plan("civitai:7", "m", licence="mit"))
        await house.hub.close()
    assert _outside(tmp_path, home) == before
    assert not list(home.parent.parent.glob("*.gguf"))


def _outside(root: Path, home: Path) -> set[Path]:
    return {path for path in root.rglob("*") if home not in (path, *path.parents) and path not in home.parents}


async def test_a_picture_is_decoded_in_no_process_of_ours_but_the_models(target: Target) -> None:
    """vLLM CVE-2026-22778: a crafted image or video runs code in the server, by its decoders."""
    code = "import sys, dayspring.server.app; print([m for m in ('PIL', 'cv2', 'av', 'imageio') if m in sys.modules])"
    pipe = asyncio.subprocess.PIPE
    ran = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, cwd=ROOT)
    assert (await ran.communicate())[0].strip() == b"[]"
    for junk in ("AAAA", "iVBORw0KGgo=", "////", "", "x" * 1000):
        for kind in ("image/png", "image/tiff", "video/mp4", "image/svg+xml", "text/html"):
            content = [{"type": "image_url", "image_url": {"url": f"data:{kind};base64,{junk}"}}]
            body = {"model": "echo", "messages": [{"role": "user", "content": content}]}
            answer = await target.ask("POST", "/v1/chat/completions", target.owners_key, json=body)
            assert answer.status in (200, 400), (kind, answer.body)
    assert (await target.ask("GET", "/v1/models", target.owners_key)).status == 200


async def test_a_tool_is_the_clients_to_run(target: Target, tmp_path: Path) -> None:
    """Open WebUI CVE-2026-45395: tool code runs in the server, for whoever may write one. Here it is data."""
    marker = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    tool = {"type": "function", "function": {"name": "run", "description": code, "parameters": {"type": "object"}}}
    body = {"model": "echo", "messages": [{"role": "user", "content": code}], "tools": [tool], "tool_choice": "auto"}
    answer = await target.ask("POST", "/v1/chat/completions", target.owners_key, json=body)
    assert answer.status in (200, 400)
    assert not marker.exists()
