"""`/docs`: the routes, readable in a browser without anything from elsewhere. Made from the OpenAPI document."""

import html
import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#5b6576;--paper:#fbfaf7;--card:#fff;--line:#e4e0d6;--sun:#b4530a}
@media(prefers-color-scheme:dark){:root{--ink:#eceae4;--soft:#a8adb8;--paper:#14171d;--card:#1c2028;--line:#2f3540;--sun:#f0a35a}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem}
details{background:var(--card);border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.6rem 1rem}
summary{cursor:pointer}summary code{font-weight:600}
table{border-collapse:collapse;width:100%;margin:.75rem 0;font-size:.9rem}
td,th{text-align:left;padding:.3rem .5rem;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
.soft{color:var(--soft)}a{color:var(--sun)}
"""


@router.get("/docs", include_in_schema=False)
def reference(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(_page(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})


def _page(schema: dict[str, Any]) -> str:
    parts = [
        f"<h1>{_text(schema['info']['title'])} {_text(schema['info']['version'])}</h1>",
        f"<p>{_text(schema['info'].get('description', ''))}</p>",
        '<p class="soft">For programs: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(schema, path, method, operation))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Dayspring API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _operation(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (parameter["name"], parameter["in"], parameter.get("required", False), parameter["schema"], parameter)
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    described = _resolve(schema, body)
    needed = set(described.get("required", ()))
    rows += [(name, "body", name in needed, field, field) for name, field in described.get("properties", {}).items()]
    table = ""
    if rows:
        cells = "".join(
            f"<tr><td><code>{_text(name)}</code></td><td>{place}</td><td>{'yes' if need else ''}</td>"
            f"<td><code>{_text(_type(field))}</code></td><td>{_text(more.get('description', ''))}</td></tr>"
            for name, place, need, field, more in rows
        )
        table = f"<table><tr><th>Field</th><th>In</th><th>Needed</th><th>Type</th><th></th></tr>{cells}</table>"
    summary = _text(operation.get("description") or operation.get("summary", ""))
    return f"<details><summary><code>{method.upper()} {_text(path)}</code> {summary}</summary>{table}</details>"


def _resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"].get(name, {}) if name else part


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field or "const" in field:
        return " | ".join(json.dumps(each) for each in field.get("enum", [field.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " | ".join(_type(each) for each in field[key])
    if field.get("type") == "array":
        return f"[{_type(field.get('items', {}))}]"
    return str(field.get("type", "any"))


def _text(value: str) -> str:
    return html.escape(str(value))
