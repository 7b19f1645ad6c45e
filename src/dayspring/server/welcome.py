"""The first page: says that the server runs and how to make the first call. The studio takes this place later.

One static page, no script, no request to anywhere else.
"""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"


@cache
def _page() -> str:
    return (files("dayspring.server") / "welcome.html").read_text(encoding="utf-8")


@router.get("/", include_in_schema=False)
def welcome() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_page(), headers={"Content-Security-Policy": _POLICY})
