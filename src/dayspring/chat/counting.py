"""Input tokens of a chat, counted by the model's own tokeniser without running it.

Not metered, and free; who asks for nothing else is held to the limits on rate like any other request.
"""

import asyncio

from dayspring.accounts.principals import Principal
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import ChatTask
from dayspring.core.errors import DayspringError, TimedOut
from dayspring.dispatch.service import Dispatch

__all__ = ["asked_tokens", "input_tokens"]


async def asked_tokens(dispatch: Dispatch, principal: Principal, model: Model, task: ChatTask) -> int:
    """As `input_tokens`, for a caller who wants no more than that. Raises Busy besides."""
    admission = dispatch.limiter.enter(principal, 1)
    try:
        return await input_tokens(dispatch, model, task)
    finally:
        admission.leave(0)


async def input_tokens(dispatch: Dispatch, model: Model, task: ChatTask) -> int:
    """Raises TimedOut, and what the engine raises. For a service behind an upstream it is an upper bound."""
    limit_s = dispatch.settings.request_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            shown = await dispatch.pictures.resolved(task, model)
            return await dispatch.compute.count_tokens(model, shown)
    except TimeoutError as error:
        if isinstance(error, DayspringError):
            raise
        raise TimedOut("Counting", limit_s=limit_s, setting="DAYSPRING_REQUEST_TIMEOUT_S") from None
