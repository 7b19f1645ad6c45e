"""Is it alive, is it ready, what has it done: the three routes an operator's tools read. None needs a key.

`/metrics` names models and money, so it is answered to loopback only unless DAYSPRING_METRICS_PUBLIC says otherwise.
"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings
from dayspring.server.metrics import Metrics
from dayspring.server.readiness import Readiness
from dayspring.web.edge.hosts import is_loopback

__all__ = ["router"]

router = APIRouter(tags=["Operations"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Says that the process runs and answers."""
    return {"status": "ok"}


class Ready(BaseModel):
    """What is still under way, by step, and what an operator should know."""

    status: Literal["starting", "ready"]
    waiting: dict[str, str]
    notes: list[str]


@router.get("/readyz", responses={200: {"model": Ready}, 503: {"model": Ready}})
def readyz(request: Request) -> JSONResponse:
    """Says whether requests can be served: 200, or 503 with what is still under way."""
    readiness: Readiness = request.app.state.readiness
    waiting = readiness.waiting()
    body = {"status": "starting" if waiting else "ready", "waiting": waiting, "notes": readiness.notes()}
    return JSONResponse(body, 503 if waiting else 200, {"Retry-After": "2"} if waiting else None)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Prometheus's text format."""
    settings: Settings = request.app.state.settings
    if not settings.metrics_public and not _from_loopback(request):
        raise PermissionDenied(
            "/metrics is answered to this machine only", "Set DAYSPRING_METRICS_PUBLIC=true to open it."
        )
    collected: Metrics = request.app.state.metrics
    collected.ready.set(0 if request.app.state.readiness.waiting() else 1)
    return Response(collected.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _from_loopback(request: Request) -> bool:
    if "forwarded" in request.headers or "x-forwarded-for" in request.headers:
        return False  # from this machine's proxy, for somebody else
    host = request.client.host if request.client is not None else ""
    return host == "" or is_loopback(host)  # a Unix socket has no address
