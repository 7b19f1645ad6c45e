"""An upstream model at work: each run asks the targets in order and gives the answer as events.

What holds: another target is asked only while nothing was given to the caller; a failure counts for the circuit
breaker of the target it happened at; leaving a run closes its connection at once; keys are in headers made once and in
nothing that is logged or raised. What it does not do: count tokens as the model does. `count_tokens` is the UTF-8
bytes of what the model could read, an upper bound, because only the service has the tokeniser.
"""

from collections.abc import AsyncGenerator

import aiohttp

from dayspring.contracts.clock import Clock, SystemClock
from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.events import Event
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import Task
from dayspring.core.errors import ContextLengthExceeded, DayspringError, PromptOverLimit, UpstreamFailed, rebuild
from dayspring.engines.upstream.answering import Answering
from dayspring.engines.upstream.bodies import Call, call_for, input_bound
from dayspring.engines.upstream.exchange import Exchange, Limits
from dayspring.engines.upstream.failures import AttemptError
from dayspring.engines.upstream.lanes import lanes_for
from dayspring.engines.upstream.options import read_options

__all__ = ["UpstreamSession", "open_session"]

_KEEP_ALIVE_S = 15.0
_NAMES_KEPT_S = 60


async def open_session(model: Model, device: Device, options: LoadOptions) -> "UpstreamSession":  # noqa: ARG001
    """A session for the model. Asks the network nothing. Raises InvalidRequest for wrong options."""
    return UpstreamSession(model, options, SystemClock())


class UpstreamSession:
    """See `contracts.engine.Session`. `clock` is for circuit breakers and for dates in Retry-After."""

    running_usage = False
    """As in `bodies.Call`."""

    def __init__(self, model: Model, options: LoadOptions, clock: Clock) -> None:
        self._model = model.id
        self._context_tokens = model.context_tokens
        self._picture_tokens = model.picture_tokens
        self._options = read_options(model.options)
        self._request_timeout_s = options.request_timeout_s
        self._clock = clock
        self._lanes = lanes_for(self._options, options.secrets, clock)
        self._http: aiohttp.ClientSession | None = None

    @property
    def parallel(self) -> int:
        return self._options.parallel

    async def run(self, task: Task) -> AsyncGenerator[Event, None]:
        """Events as `contracts.engine` says; a Started comes before the first piece of a stream."""
        if task.prompt_limit is not None and (bound := await self.count_tokens(task)) > task.prompt_limit:
            raise PromptOverLimit(bound)
        call = call_for(task, running_usage=self.running_usage)
        limits = Limits(
            total_s=self._request_timeout_s,
            setting="DAYSPRING_REQUEST_TIMEOUT_S",
            answer_bytes=self._options.max_answer_bytes,
        )
        answering, events = await self._begun(call, limits)
        try:
            more: list[Event] | None = events
            while more is not None:
                for event in more:
                    yield event
                more = await answering.more()
        except (AttemptError, UpstreamFailed) as failed:
            raise answering.counted(failed) from None
        finally:
            answering.close()

    async def count_tokens(self, task: Task) -> int:
        """An upper bound of the input tokens: see `bodies.input_bound`."""
        return input_bound(task, self._context_tokens, self._picture_tokens)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _begun(self, call: Call, limits: Limits) -> tuple[Answering, list[Event]]:
        """The first answer that began, and its first events. Raises the error of the last target asked."""
        error: DayspringError | None = None
        for lane in self._lanes:
            if not lane.breaker.allow():
                continue
            exchange = Exchange(self._connected(), lane, limits, self._model, self._clock)
            answering = Answering(exchange, lane, call, self._model)
            try:
                events = await answering.begin(self._options.max_event_bytes)
            except (AttemptError, UpstreamFailed) as failed:
                answering.close()
                error = self._with_length(answering.counted(failed))
                if isinstance(failed, UpstreamFailed) or not failed.try_next:
                    raise error from None
            except BaseException:  # cancelled, or a defect: the breaker's probe must not stay out for ever
                answering.close()
                lane.breaker.abandoned()
                raise
            else:
                lane.breaker.succeeded()
                return answering, events
        if error is None:
            wait_s = max(1.0, min(lane.breaker.wait_s() for lane in self._lanes))
            error = UpstreamFailed(model=self._model, reason="keeps failing and is left alone", retry_after_s=wait_s)
        raise error

    def _with_length(self, error: DayspringError) -> DayspringError:
        """A service's refusal of a long prompt, with the model's length where it is known here."""
        if not isinstance(error, ContextLengthExceeded) or not self._context_tokens:
            return error
        message = (
            f"The prompt and the answer asked for do not fit {self._model!r}, which reads at most "
            f"{self._context_tokens} tokens. Shorten the prompt, or ask for less."
        )
        return rebuild(error.code, message, error.param)

    def connector(self) -> aiohttp.BaseConnector:
        """How services are reached."""
        # The host bounds how many run at once, so no second queue here. aiohttp sets TCP_NODELAY itself.
        return aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=_NAMES_KEPT_S)

    def _connected(self) -> aiohttp.ClientSession:
        """The one client, made in the loop that runs."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=self.connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._http
