"""Errors and traces go to Sentry; what describes a person does not."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, cast

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.django import DjangoIntegration

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

# What an event keeps; anything else that the SDK collects is dropped, today's and tomorrow's.
_EVENT = {
    *("event_id", "timestamp", "start_timestamp", "type", "level", "platform", "sdk"),
    *("environment", "release", "server_name", "transaction", "transaction_info"),
}
_TRACE = {"trace_id", "span_id", "parent_span_id", "op", "status", "origin"}
_SPAN = _TRACE | {"timestamp", "start_timestamp"}
_FRAME = {"filename", "abs_path", "function", "module", "lineno", "in_app"}
_EMAIL = re.compile(r"[^\s@'\"<>]+@[^\s@'\"<>]+")


def start() -> None:
    """Send errors to the address in SENTRY_DSN, nothing without one.

    SENTRY_SEND_DEFAULT_PII=True sends all that the SDK can find: the test of this file uses it.
    """
    everything = os.environ.get("SENTRY_SEND_DEFAULT_PII") == "True"
    sentry_sdk.init(
        dsn=os.environ.get("SENTRY_DSN"),
        environment=os.environ.get("SENTRY_ENVIRONMENT", "production"),
        integrations=[DjangoIntegration(), CeleryIntegration()],
        traces_sample_rate=float(os.environ.get("SENTRY_TRACES_SAMPLE_RATE", "0.1")),
        send_default_pii=everything,
        max_request_body_size="always" if everything else "never",
        include_local_variables=everything,
        before_send=None if everything else scrubbed,
        before_send_transaction=None if everything else scrubbed,
    )


def scrubbed(event: Event, _hint: Hint) -> Event:
    """Return what may leave of an event: what failed and where, not for whom."""
    given = cast("dict[str, Any]", event)
    kept = _only(given, _EVENT)
    if method := (given.get("request") or {}).get("method"):
        kept["request"] = {"method": method}
    if trace := (given.get("contexts") or {}).get("trace"):
        kept["contexts"] = {"trace": _only(trace, _TRACE)}
    if "spans" in given:
        kept["spans"] = [_only(span, _SPAN) for span in given["spans"]]
    values = (given.get("exception") or {}).get("values") or []
    if values:
        kept["exception"] = {"values": [_exception(value) for value in values]}
    return cast("Event", kept)


def _exception(value: dict[str, Any]) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames") or []
    return {
        "type": value.get("type"),
        "value": _EMAIL.sub("[address]", str(value.get("value") or "")),
        "stacktrace": {"frames": [_only(frame, _FRAME) for frame in frames]},
    }


def _only(given: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}
