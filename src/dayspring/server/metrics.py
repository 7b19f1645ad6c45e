"""What Prometheus scrapes at /metrics. Counters only of what happened here; money in nano-units of the one currency."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dayspring.accounts.limits import NAMES
from dayspring.compute.service import Compute
from dayspring.dispatch.values import Receipt
from dayspring.ledger.spending.alerts import SOFT_LIMIT, Raised

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Those that become a label: a client may send any word."""


class Metrics:
    """One registry for one server process."""

    def __init__(self, compute: Compute) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "dayspring_http_requests", "HTTP requests", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "dayspring_http_seconds",
            "Time to the end of the answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter("dayspring_tokens", "Tokens metered", ("model", "kind"), registry=self.registry)
        self._money = Counter(
            "dayspring_amount_nanos", "Money booked, nano-units", ("model", "line"), registry=self.registry
        )
        self._first = Histogram(
            "dayspring_first_token_seconds",
            "Time to the first token",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._settled = Counter("dayspring_settled", "Metered requests", ("model", "status"), registry=self.registry)
        self._alerts = Counter(
            "dayspring_spend_alerts", "Spend alerts raised", ("level", "kind"), registry=self.registry
        )
        self.ready = Gauge("dayspring_ready", "1 when /readyz says so", registry=self.registry)
        self._routes: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._models: dict[tuple[str, str], tuple[Counter, ...]] = {}
        self.registry.register(_Workers(compute))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request."""
        key = (method if method in _METHODS else "other", route, status)
        found = self._routes.get(key)
        if found is None:
            found = self._requests.labels(key[0], route, str(status)), self._seconds.labels(route)
            self._routes[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def settled(self, receipt: Receipt) -> None:
        """One metered request."""
        key = (receipt.model_id, receipt.status)
        found = self._models.get(key) or self._of_model(*key)
        for counter, amount in zip(found, _amounts(receipt), strict=True):
            if amount:
                counter.inc(amount)
        if receipt.first_token_s is not None:
            self._first.labels(receipt.model_id).observe(receipt.first_token_s)

    def _of_model(self, model: str, status: str) -> tuple[Counter, ...]:
        """The counters of `_amounts`, looked up once: finding a labelled child costs more than counting."""
        tokens = (self._tokens.labels(model, kind) for kind in ("input", "cached", "output"))
        money = (self._money.labels(model, line) for line in ("price", "cost"))
        self._models[model, status] = found = (self._settled.labels(model, status), *tokens, *money)
        return found

    def alerted(self, raised: Raised) -> None:
        """One spend alert."""
        kind = SOFT_LIMIT if raised.alert_id == SOFT_LIMIT else "threshold"
        self._alerts.labels(NAMES[raised.level], kind).inc()

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


def _amounts(receipt: Receipt) -> tuple[int, ...]:
    usage = receipt.usage
    tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    return (1, *tokens, receipt.price_nanos, receipt.cost_nanos)


class _Workers(Collector):
    """Reads the workers' state when scraped."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute

    def collect(self) -> Iterable[Metric]:
        resident = GaugeMetricFamily("dayspring_worker_memory_bytes", "Memory of a worker", labels=("model", "device"))
        running = GaugeMetricFamily("dayspring_worker_running", "Requests a worker runs", labels=("model", "device"))
        for worker in self.compute.status().workers:
            resident.add_metric((worker.model, worker.device), worker.memory_bytes)
            running.add_metric((worker.model, worker.device), worker.running)
        return (resident, running)
