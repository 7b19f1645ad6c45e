"""The first page: says that the server runs and how to make the first call. The studio takes this place later.

One static page, no script, no request to anywhere else.
"""

import html
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from dayspring.core.settings import Settings

__all__ = ["router"]

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"


@cache
def _page() -> str:
    return (files("dayspring.server") / "welcome.html").read_text(encoding="utf-8")


@router.get("/", include_in_schema=False)
def welcome(request: Request) -> HTMLResponse:
    """The page, with this server's own address and data folder in its example."""
    settings: Settings = request.app.state.settings
    page = _page().replace("http://127.0.0.1:8420", html.escape(str(request.base_url).rstrip("/")))
    page = page.replace("~/.dayspring", html.escape(str(settings.home)))
    page = page.replace('href="/', f'href="{html.escape(settings.root_path)}/')
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})
