"""Spans and metrics of a deployment's requests, for OpenTelemetry: the extra `convexorm[otel]`.

Names are those of OpenTelemetry's conventions for database clients, where there are any. Contents and keys are in neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import metrics, trace

from convexorm.deployments.base import Deployment, check_deployment
from convexorm.deployments.observers import Request

__all__ = ["instrument"]

_NAME = "convexorm"
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)


def instrument(
    deployment: Deployment,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Callable[[], None]:
    """Make a span of each request of a deployment, under the span it was made in, and count it; what ends that.

    The providers are the global ones if not said. Spans are of the kind CLIENT. Metrics are `db.client.operation.duration`
    (seconds) and `db.client.response.returned_rows`, and the counters `convexorm.client.retries`,
    `convexorm.client.conflicts` and `convexorm.client.documents_read`.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
    duration = meter.create_histogram(
        "db.client.operation.duration",
        "s",
        "How long a request took, attempts and pauses included.",
        explicit_bucket_boundaries_advisory=_SECONDS,
    )
    rows = meter.create_histogram("db.client.response.returned_rows", "{row}", "Documents that a request answered.")
    retries = meter.create_counter("convexorm.client.retries", "{attempt}", "Attempts after the first.")
    conflicts = meter.create_counter("convexorm.client.conflicts", "{conflict}", "Commits that Convex gave up.")
    read = meter.create_counter("convexorm.client.documents_read", "{document}", "Documents that reads answered.")

    def tell(request: Request) -> None:
        attributes = _attributes(request)
        end = time.time_ns()
        span = tracer.start_span(
            _span_name(request),
            kind=trace.SpanKind.CLIENT,
            start_time=end - round(request.seconds * 1e9),
            attributes={**attributes, **_details(request)},
        )
        if request.error is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, request.error))
        span.end(end)
        duration.record(request.seconds, attributes)
        if request.error is None and request.operation in ("read", "search"):
            rows.record(request.documents, attributes)
            read.add(request.documents, attributes)
        if request.attempts > 1:
            retries.add(request.attempts - 1, attributes)
        if request.conflicts:
            conflicts.add(request.conflicts, attributes)

    return check_deployment(deployment).on_request(tell)


def _span_name(request: Request) -> str:
    about = request.function or (request.tables[0] if len(request.tables) == 1 else "")
    return f"{request.operation} {about}".strip()


def _attributes(request: Request) -> dict[str, Any]:
    """What metrics are told by: nothing of which there are many."""
    where = urlsplit(request.deployment)
    remote = where.scheme in ("http", "https")
    attributes: dict[str, Any] = {
        "db.system.name": "convex" if remote else "sqlite",
        "db.operation.name": request.operation,
    }
    if len(request.tables) == 1:
        attributes["db.collection.name"] = request.tables[0]
    if remote and where.hostname:
        attributes["server.address"] = where.hostname
        attributes["server.port"] = where.port or (443 if where.scheme == "https" else 80)
    if request.function is not None:
        attributes["db.stored_procedure.name"] = request.function
    if request.error is not None:
        attributes["error.type"] = request.error
    return attributes


def _details(request: Request) -> dict[str, Any]:
    """What only a span is told."""
    details: dict[str, Any] = {
        "db.response.returned_rows": request.documents,
        "convexorm.attempts": request.attempts,
        "convexorm.indexes": list(request.indexes),
    }
    if request.count > 1:  # by the conventions a batch is two or more
        details["db.operation.batch.size"] = request.count
    if len(request.tables) > 1:
        details["convexorm.tables"] = list(request.tables)
    if request.conflicts:
        details["convexorm.conflicts"] = request.conflicts
    if request.sent:
        details |= {"convexorm.bytes_sent": request.sent, "convexorm.bytes_received": request.received}
    return details
