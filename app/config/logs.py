"""Logs: one JSON object a line, or plain text; Django's and gunicorn's alike.

Every line carries the id of the request it belongs to, so one `grep` shows all that a
request did, in nginx's log too.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

TEXT = "%(asctime)s %(levelname)-8s %(name)s [%(request_id)s] %(message)s"
# gunicorn's names: https://gunicorn.org/reference/settings/#access_log_format
ACCESS_LOG = "%(m)s %(U)s %(s)s"


class RequestIdFilter(logging.Filter):
    """Puts the current request's id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add `request_id` (None outside a request); lets every record pass."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


class AccessLogFilter(logging.Filter):
    """Turns gunicorn's access log arguments into fields of their own.

    gunicorn logs after the request has left the app, so the id comes from the response.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add `request_id`, `method`, `path`, `status` and `duration_ms`.

        Drops successful health checks, which come every few seconds and bury the rest.
        """
        atoms = record.args
        if not isinstance(atoms, dict):
            return True
        status, path = int(atoms.get("s") or 0), str(atoms.get("U"))
        record.request_id = atoms.get("{x-request-id}o")
        record.method = atoms.get("m")
        record.path = path
        record.status = status
        record.duration_ms = atoms.get("M")
        return not (status == HTTPStatus.OK and path.startswith("/health"))


class JsonLines(JsonFormatter):
    """The JSON format: the fields below, then whatever was given as `extra`."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message", "module", "funcName", "lineno", "request_id"],
            rename_fields={
                "levelname": "level",
                "name": "logger",
                "funcName": "function",
                "lineno": "line",
                "exc_info": "exception",
            },
            # Django hands over the request and the socket as `extra`: not for a log.
            reserved_attrs=[
                *logging.makeLogRecord({}).__dict__,
                *("message", "asctime", "taskName", "request", "server_time"),
            ],
        )

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """Put the timestamp (UTC, ISO 8601) before everything else."""
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(
            timespec="milliseconds"
        )
        super().add_fields(log_data, record, message_dict)


def logging_config(*, level: str, format_name: str) -> dict[str, Any]:
    """Return the `logging.config.dictConfig` dictionary for Django and for gunicorn.

    Args:
        level: the lowest level that is logged, such as "INFO".
        format_name: "json" or "text".

    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "request_id": {"()": RequestIdFilter},
            "access": {"()": AccessLogFilter},
        },
        "formatters": {
            "json": {"()": JsonLines},
            "text": {"format": TEXT},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": format_name,
                "filters": ["request_id"],
            },
        },
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            # Django's own handlers would print everything a second time, as text.
            "django": {"level": level, "handlers": [], "propagate": True},
            "django.server": {"level": level, "handlers": [], "propagate": True},
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
            "gunicorn.access": {
                "level": level,
                "handlers": [],
                "filters": ["access"],
                "propagate": True,
            },
        },
    }
