"""`bedstone maintenance`: a page in place of an app."""

from __future__ import annotations

import html.parser
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import maintenance
from bedstone.cli import main
from bedstone.core.process import Completed
from bedstone.release import retire
from bedstone.system.host import Host


@pytest.fixture
def site(declared: Path, root: Path) -> Path:
    """The app with a site in nginx; returns where its page goes."""
    del declared
    sites = root / "etc/nginx/bedstone/sites"
    sites.mkdir(parents=True)
    (sites / "shop.conf").write_text("server {}")
    return root / "etc/nginx/bedstone/maintenance/shop.html"


def test_on_and_off_and_what_it_says(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for state, said, on in (
        ([], "Maintenance of shop is off.", False),
        (["on"], "Maintenance of shop is on: visitors see the page", True),
        (["on"], "Maintenance of shop is on since ", True),
        ([], "Maintenance of shop is on since ", True),
        (["on", "--message", "x"], "visitors see the new page", True),
        (["off"], "Maintenance of shop is off: visitors get to the app again", False),
        (["off"], "Maintenance of shop was off already", False),
    ):
        assert main.main(["maintenance", "shop", *state]) == 0
        assert said in capsys.readouterr().out
        assert maintenance.is_on("shop") is site.exists() is on


def test_nginx_may_read_the_page(site: Path) -> None:
    main.main(["maintenance", "shop", "on"])
    assert stat.S_IMODE(site.stat().st_mode) == 0o644
    assert [path.name for path in site.parent.iterdir()] == ["shop.html"]


def test_message_is_text_and_not_html(site: Path) -> None:
    main.main(["maintenance", "shop", "on", "--message", "<script>x</script> & {y}\n1\n\nLater"])
    text = site.read_text()
    assert "<p>&lt;script&gt;x&lt;/script&gt; &amp; {y}<br>\n1</p>\n<p>Later</p>" in text
    assert "<script" not in text


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.void = {"meta", "path", "br"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "srcset"} & {name for name, _ in attrs}
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_else() -> None:
    text = maintenance.page(maintenance.MESSAGE)
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    assert "Nothing you have saved is lost." in text


def test_page_of_ones_own_is_taken_as_it_is(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.html"
    own.write_text("<h1>{message} ü</h1>")
    assert main.main(["maintenance", "shop", "on", "--page", str(own)]) == 0
    assert site.read_text() == "<h1>{message} ü</h1>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "isn't UTF-8"),
        (b"x" * 1_048_577, "1048576 is the most"),
    ],
)
def test_page_that_is_none_is_refused(
    site: Path,
    tmp_path: Path,
    content: bytes | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "own.html"
    if content is not None:
        own.write_bytes(content)
    assert main.main(["maintenance", "shop", "on", "--page", str(own)]) == 1
    assert said in capsys.readouterr().err
    assert not site.exists()


def test_app_without_a_site_is_refused(declared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del declared
    assert main.main(["maintenance", "shop", "on"]) == 3
    assert "has no site in this server's nginx" in capsys.readouterr().err
    assert not maintenance.is_on("shop")


@pytest.mark.parametrize("state", [[], ["on"], ["off"]])
def test_unknown_app_is_told(
    root: Path, state: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    assert main.main(["maintenance", "shop", *state]) == 1
    assert "No app is called 'shop'" in capsys.readouterr().err


def test_page_of_an_app_that_is_gone_can_be_taken_away(site: Path, declared: Path) -> None:
    main.main(["maintenance", "shop", "on"])
    (declared / "app.json").unlink()
    assert main.main(["maintenance", "shop", "off"]) == 0
    assert not site.exists()


def test_message_goes_with_on(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del site
    assert main.main(["maintenance", "shop", "--message", "x"]) == 1
    assert "go with `on`" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main.main(["maintenance", "shop", "maybe"])
    assert caught.value.code == 2


def test_retired_app_leaves_no_page_to_the_next_of_its_name(site: Path) -> None:
    def run(argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, "", "", 0.0)

    main.main(["maintenance", "shop", "on"])
    retire.retire("shop", Host(run=run))
    assert not site.exists()
