"""Switch maintenance on and off: nginx shows a page in place of an app, which keeps running.

The page is the switch: nginx looks for the file at each request, so that nothing
has to be reloaded and a crash leaves it on or off.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "We are working on this service and will be back soon. Nothing you have saved is lost."
MOST_BYTES = 1024 * 1024

# Self-contained: while it is shown, the app's own files may be gone.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Under maintenance</title>
<style>
  :root { color-scheme: light dark;
          --back: #f6f5f2; --card: #ffffff; --text: #2b2a27; --soft: #6b6862; --line: #e4e1da;
          --mark: #b4682a; }
  @media (prefers-color-scheme: dark) {
    :root { --back: #171614; --card: #211f1c; --text: #ece9e3; --soft: #a5a098; --line: #35322d;
            --mark: #e0975a; }
  }
  * { box-sizing: border-box; }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem;
         background: var(--back); color: var(--text); font: 1.0625rem/1.65 system-ui, sans-serif; }
  main { width: 100%; max-width: 34rem; padding: clamp(1.75rem, 6vw, 3rem);
         background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
         box-shadow: 0 1.5rem 3rem -2rem rgb(0 0 0 / .35); }
  svg { display: block; width: 3rem; height: 3rem; margin: 0 0 1.25rem -.5rem; color: var(--mark); }
  h1 { margin: 0 0 .75rem; font-size: 1.625rem; line-height: 1.25; letter-spacing: -.01em; }
  p { margin: 0 0 1rem; overflow-wrap: anywhere; }
  footer { margin-top: 1.75rem; padding-top: 1rem; border-top: 1px solid var(--line);
           color: var(--soft); font-size: .9375rem; }
</style>
</head>
<body>
<main>
<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.6"
     stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
  <path d="M14.5 6.2a4.4 4.4 0 0 1 5.3-1l-2.9 2.9 1.9 1.9 2.7-2.7a4.4 4.4 0 0 1-6 5.4l-6.9 7a1.9 1.9
           0 0 1-2.8-2.7l7-6.9a4.4 4.4 0 0 1 1.7-3.9z"/>
</svg>
<h1>Under maintenance</h1>
{message}
<footer>You need do nothing: come back in a while and reload this page.</footer>
</main>
</body>
</html>
"""


def path(app: str) -> Path:
    """Return the page whose presence is the switch."""
    return paths.host("/etc/nginx/bedstone/maintenance") / f"{app}.html"


def is_on(app: str) -> bool:
    """Return whether visitors see the page."""
    return path(app).is_file()


def since(app: str) -> datetime | None:
    """Return when maintenance began, or None while it is off."""
    try:
        return datetime.fromtimestamp(path(app).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def turn_on(app: str, text: str) -> None:
    """Show visitors a page from now on.

    Args:
        app: the app.
        text: the whole page, HTML.

    Raises:
        BedstoneError: no such app.
        RefusedError: nginx on this server has no site of the app.

    """
    config.load(app)
    if not (paths.host("/etc/nginx/bedstone/sites") / f"{app}.conf").is_file():
        raise RefusedError(
            f"{app} has no site in this server's nginx, so nobody would see the page.",
            hint="An app has a site when it has `domains` in the settings; `site.yml` makes it.",
        )
    target = path(app)
    target.parent.mkdir(mode=0o755, exist_ok=True)
    files.write(target, text)


def turn_off(app: str) -> bool:
    """Remove the maintenance page; return whether it was on."""
    target = path(app)
    if not target.is_file():
        return False
    target.unlink()
    files.sync_directory(target.parent)
    return True


def page(message: str) -> str:
    """Return the page with a message: plain text, empty lines begin a paragraph."""
    paragraphs = (part.strip() for part in message.replace("\r\n", "\n").split("\n\n"))
    return _PAGE.replace(
        "{message}",
        "\n".join(
            "<p>" + html.escape(part).replace("\n", "<br>\n") + "</p>"
            for part in paragraphs
            if part
        ),
    )


def read_page(source: Path) -> str:
    """Return a page of one's own.

    Raises:
        BedstoneError: it can't be read, is empty, too big, or isn't UTF-8.

    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise BedstoneError(f"The page {source} can't be read: {error.strerror}.") from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BedstoneError(f"The page {source} isn't UTF-8: {error}.") from error
    if not text.strip():
        raise BedstoneError(f"The page {source} is empty.")
    if len(content) > MOST_BYTES:
        raise BedstoneError(
            f"The page {source} has {len(content)} bytes; {MOST_BYTES} is the most.",
            hint="It is one HTML file; pictures in it are better kept small, or left out.",
        )
    return text
