"""The pages: one that lists and takes entries. No health endpoint, no static files."""

from __future__ import annotations

import hashlib
import hmac
from html import escape
from urllib.parse import parse_qs

import psycopg
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from guestbook import config

SETTINGS = config.load()
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Guest book</title>
<h1>{greeting}</h1>
<form method="post"><input name="name" placeholder="Your name" required>
<input name="message" placeholder="Your message" required>
<input type="hidden" name="stamp" value="{stamp}"><button>Sign</button></form>
<ul>{entries}</ul></html>"""
# Proves that a form came from this app: a client that does not know APP_KEY can't make it.
STAMP = hmac.new(SETTINGS.app_key, b"guestbook form", hashlib.sha256).hexdigest()


def connect() -> psycopg.Connection[tuple[str, ...]]:
    """Connect to the database; the caller closes."""
    return psycopg.connect(SETTINGS.dsn, password=SETTINGS.password, connect_timeout=5)


def read() -> list[tuple[str, ...]]:
    """Return the newest entries: name, message, day."""
    with connect() as connection:
        return connection.execute(
            "SELECT name, message, to_char(written_at, 'YYYY-MM-DD') FROM entries"
            " ORDER BY id DESC LIMIT 50"
        ).fetchall()


def write(name: str, message: str) -> None:
    """Add an entry."""
    with connect() as connection:
        connection.execute("INSERT INTO entries (name, message) VALUES (%s, %s)", (name, message))


async def show(_request: Request) -> Response:
    """List the entries."""
    entries = "".join(
        f"<li><b>{escape(name)}</b>: {escape(message)} ({day})</li>"
        for name, message, day in await run_in_threadpool(read)
    )
    greeting = escape(SETTINGS.greeting)
    return HTMLResponse(PAGE.format(greeting=greeting, stamp=STAMP, entries=entries))


async def sign(request: Request) -> Response:
    """Take an entry."""
    form = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
    if not hmac.compare_digest(form.get("stamp", ""), STAMP):
        return PlainTextResponse("This form is not one of ours.\n", status_code=403)
    if not form.get("name") or not form.get("message"):
        return PlainTextResponse("Name and message are both needed.\n", status_code=400)
    await run_in_threadpool(write, form["name"], form["message"])
    return RedirectResponse("/", status_code=303)


app = Starlette(
    routes=[Route("/", show, methods=["GET"]), Route("/", sign, methods=["POST"])],
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=SETTINGS.hostnames)],
)
