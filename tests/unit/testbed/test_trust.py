import pytest

from bedstone_control.pki.authority import make_authority
from testbed.trust import certificates, extra, pip_conf, pip_settings

DEBIANS = make_authority("Shipped with Debian", 30)[0]
COMPANYS = make_authority("The company's proxy", 30)[0]


def test_only_authorities_beyond_debians_are_extra() -> None:
    bundle = f"# comment\n{DEBIANS}{COMPANYS}"
    assert extra([bundle, COMPANYS], [DEBIANS]) == [COMPANYS]


def test_what_is_no_certificate_is_left_out() -> None:
    broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    assert list(certificates(f"{broken}text{DEBIANS}").values()) == [DEBIANS]


LISTING = """\
global.cert='/etc/ssl/certs/ca-certificates.crt'
global.index-url='https://weak.example/simple'
user.extra-index-url='file:///opt/simple https://more.example/simple'
user.find-links='/opt/wheels'
:env:.index-url='https://strong.example/simple'
broken line
global.timeout=not a literal
"""


def test_pip_settings_keep_what_a_server_can_reach_the_strongest_level_first() -> None:
    assert pip_settings(LISTING, {}) == {
        "index-url": "https://strong.example/simple",
        "extra-index-url": "https://more.example/simple",
    }


def test_pip_gets_the_environments_proxy_unless_it_has_one() -> None:
    environment = {"https_proxy": "http://p.example:1"}
    assert pip_settings("", environment) == {"proxy": "http://p.example:1"}
    assert pip_settings("user.proxy='http://own.example:2'", environment) == {
        "proxy": "http://own.example:2"
    }


@pytest.mark.parametrize("own", [True, False])
def test_pip_conf_names_the_bundle_only_when_it_differs(own: bool) -> None:  # noqa: FBT001
    text = pip_conf({"timeout": "60"}, own_authorities=own)
    assert text.startswith("[global]\ntimeout = 60\n")
    assert ("cert = " in text) is own
