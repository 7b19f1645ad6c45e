"""What the tests of the wounds share: the attacked server, its two projects, and looks into our own source."""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from asgi import Answer
from dayspring.accounts.principals import Principal
from hub.hub_ranges import ranged
from server.server_house import Served

__all__ = ["ROOT", "SOURCE", "Bomb", "Target", "calls", "hub_of", "imports", "least", "multipart"]

ROOT = Path(__file__).parents[2]
COMMIT = "c" * 40
SOURCE = sorted((ROOT / "src" / "dayspring").rglob("*.py"))


@dataclass
class Target:
    """The owner has things; the stranger, of another project, wants them."""

    house: Served
    owner: Principal
    owners_key: str
    stranger: Principal
    strangers_key: str

    async def ask(self, method: str, path: str, key: str, **more: Any) -> Answer:
        return await self.house.ask(method, path, key=key, **more)

    async def file(self, content: bytes = b"private", name: str = "a.txt") -> str:
        """A file of the owner's."""
        body, kind = multipart(content, name)
        made = await self.ask("POST", "/v1/files", self.owners_key, body=[body], headers=kind)
        assert made.status == 200, made.body
        return str(made.json["id"])


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def least(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """The least value that a schema of the OpenAPI document takes: what is required, and no more."""
    if "$ref" in schema:
        return least(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return least(document, schema[word][0])
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if kind == "object":
        return {name: least(document, schema["properties"][name]) for name in schema.get("required", ())}
    if kind == "array":
        return [least(document, schema["items"])] * schema.get("minItems", 0)
    plain: dict[Any, Any] = {"integer": schema.get("minimum", 1), "number": 1, "boolean": True, "null": None}
    return plain.get(kind, "ann@example.com")


def multipart(content: bytes, name: str) -> tuple[bytes, dict[str, str]]:
    head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def hub_of(files: dict[str, bytes]) -> web.Application:
    """A hub with one repository, owner/name, that says of its files what an attacker likes."""

    async def describe(_: web.Request) -> web.Response:
        siblings = []
        for name, data in files.items():
            stored = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            siblings.append({"rfilename": name, "size": len(data), "lfs": stored})
        card = {"license": "mit"}
        return web.json_response({"id": "owner/name", "sha": COMMIT, "cardData": card, "siblings": siblings})

    async def resolve(request: web.Request) -> web.StreamResponse:
        data = files.get(request.match_info["file"])
        return web.Response(status=404) if data is None else ranged(request, data, {"X-Repo-Commit": COMMIT})

    app = web.Application()
    app.router.add_get("/api/models/owner/name/revision/{revision}", describe)
    app.router.add_get(f"/owner/name/resolve/{COMMIT}/{{file:.+}}", resolve)
    return app


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Every call in our source: where, the dotted name of what is called, the call."""
    for path in SOURCE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node


def imports() -> Iterator[tuple[Path, str]]:
    """Every module that our source imports."""
    for path in SOURCE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module
