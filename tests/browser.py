"""A small browser for tests: verified TLS to a chosen address, cookies, forms."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Page:
    """An answer: the status, the headers with names in lower case, and the body."""

    url: str
    status: int
    headers: dict[str, str]
    text: str


class _Connection(HTTPSConnection):
    """Connects to one address, whatever name the URL has; the name is what TLS verifies."""

    def __init__(self, name: str, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=TIMEOUT_SECONDS)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        raw = socket.create_connection(self._address, TIMEOUT_SECONDS)
        self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)


@dataclass
class Browser:
    """One visitor of one site.

    Args:
        domain: the site's name; the certificate must carry it.
        address: where the site's proxy listens.
        port: and its port.
        authority: PEM file of the certificate authority to trust, and no other.

    """

    domain: str
    address: str
    authority: Path
    port: int = 443
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    @property
    def origin(self) -> str:
        """The site's origin as a browser writes it."""
        return f"https://{self.domain}" + (f":{self.port}" if self.port != 443 else "")

    def get(self, path: str) -> Page:
        """Fetch a page, following redirects within the site."""
        return self._follow("GET", path, None)

    def submit(self, path: str, /, action: str | None = None, **values: str) -> Page:
        """Open the page with a form, then send the form with its CSRF token.

        Args:
            path: the page that shows the form.
            action: where the form goes; the page's own path when left out.
            values: what is filled in.

        """
        page = self.get(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token, f"no form on {page.url}: {page.status}"
        return self._follow("POST", action or path, values | {"csrfmiddlewaretoken": token[1]})

    def send(self, path: str, /, **values: str) -> Page:
        """Send form values as they are."""
        return self._follow("POST", path, values)

    def _follow(self, method: str, path: str, values: dict[str, str] | None) -> Page:
        url = urljoin(self.origin, path)
        for _ in range(5):
            page = self._request(method, url, values)
            if page.status not in {301, 302, 303}:
                return page
            url = urljoin(url, page.headers["location"])
            assert url.startswith(self.origin), f"led away to {url}"
            method, values = "GET", None
        raise AssertionError(f"too many redirects, the last to {url}")

    def _request(self, method: str, url: str, values: dict[str, str] | None) -> Page:
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = _Connection(self.domain, (self.address, self.port), context)
        headers = {"Host": self.origin.removeprefix("https://"), "Referer": url}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v.value}" for k, v in self.cookies.items())
        body = None
        if values is not None:
            body = urlencode(values)
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
        parts = urlsplit(url)
        try:
            connection.request(
                method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers
            )
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    self.cookies.load(value)
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Page(url, answer.status, found, text)
        finally:
            connection.close()


def log_in(browser: Browser, name: str, password: str) -> None:
    """Sign in to the reference app."""
    page = browser.submit("/login/", username=name, password=password)
    assert page.status == 200, page.text
    assert "Sign in" not in page.text, "the login was refused"
