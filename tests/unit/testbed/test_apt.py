import pytest

from testbed.apt import Mirror, carried_options, parse_targets, signed_by, source_lines

FILE = "/etc/apt/sources.list.d/debian.sources"
KNOWN = f"""\
https://apt.third.example/linux/|bookworm|main|Third Party|/etc/apt/sources.list.d/third.list:1
https://mirror.example/debian/|bookworm|main|Debian|{FILE}:1
https://mirror.example/debian/|bookworm-updates|main|Debian|{FILE}:1
https://mirror.example/debian/|bookworm|contrib|Debian|{FILE}:1
https://mirror.example/debian-security/|bookworm-security|main|Debian|{FILE}:7
"""


def test_the_mirror_is_debians_not_a_third_partys() -> None:
    assert parse_targets(KNOWN) == Mirror(
        "https://mirror.example/debian/", "https://mirror.example/debian-security/", FILE
    )


def test_before_the_first_update_the_path_tells() -> None:
    text = KNOWN.replace("|Debian|", "|$(ORIGIN)|").replace("|Third Party|", "|$(ORIGIN)|")
    assert parse_targets(text).main == "https://mirror.example/debian/"


@pytest.mark.parametrize(
    "text", ["", "rubbish\n", "https://x.example/ubuntu/|noble|main|Ubuntu|f:1"]
)
def test_without_debians_archive_the_default_is_used(text: str) -> None:
    assert parse_targets(text) == Mirror()
    assert source_lines(Mirror(), "trixie", None) == []


def test_source_lines_name_the_suite_that_is_wanted() -> None:
    lines = source_lines(parse_targets(KNOWN), "trixie", "/k.gpg")
    assert lines == [
        "deb [signed-by=/k.gpg] https://mirror.example/debian/ trixie main",
        "deb [signed-by=/k.gpg] https://mirror.example/debian/ trixie-updates main",
        "deb [signed-by=/k.gpg] https://mirror.example/debian-security/ trixie-security main",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Types: deb\nURIs: https://m.example/debian\nSigned-By: /etc/apt/keyrings/m.asc\n",
        "deb [arch=amd64 signed-by=/etc/apt/keyrings/m.asc] https://m.example/debian trixie main\n",
    ],
)
def test_keyring_is_read_from_either_format(text: str) -> None:
    assert signed_by(text) == "/etc/apt/keyrings/m.asc"


def test_an_embedded_key_is_no_file() -> None:
    assert signed_by("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n") is None


def test_options_that_decide_about_a_mirror_are_carried() -> None:
    dump = (
        'Acquire::Check-Valid-Until "false";\nAcquire::http::Proxy "http://p.example:3128";\n'
        'Acquire::http::User-Agent "x";\nAPT::Architecture "amd64";\nAcquire::https "";\n'
    )
    assert carried_options(dump, {}) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://p.example:3128";',
    ]


def test_a_proxy_of_the_environment_is_carried_unless_apt_has_its_own() -> None:
    environment = {"http_proxy": "http://env.example:1", "https_proxy": "http://env.example:2"}
    dump = 'Acquire::http::Proxy "http://apt.example:3";\n'
    assert carried_options(dump, environment) == [
        'Acquire::http::Proxy "http://apt.example:3";',
        'Acquire::https::Proxy "http://env.example:2";',
    ]
