"""A reload is over when nginx serves what it was reloaded for, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from again import applied, refused

if TYPE_CHECKING:
    from testinfra.host import Host
    from web_client import Client

UNITS = ["nginx.service"]
TIMES = 20
# Each request comes at once after the reload that its answer depends on.
RELOADS = rf"""
for number in $(seq {TIMES}); do
    echo "server {{ listen 127.0.0.1:8099; return 200 '$number '; }}" > /etc/nginx/conf.d/count.conf
    systemctl reload nginx && curl --silent --show-error http://127.0.0.1:8099/
done
rm /etc/nginx/conf.d/count.conf
systemctl reload nginx
"""


def test_request_after_a_reload_is_answered_by_the_new_configuration(host: Host) -> None:
    answered = host.check_output(RELOADS).split()
    assert answered == [str(number) for number in range(1, TIMES + 1)]


# For twenty seconds, until a reload that nothing comes of is given up.
def test_configuration_that_nginx_can_not_take_fails_the_reload(
    host: Host, client: Client, server_name: str
) -> None:
    port = 8444
    host.check_output(
        f"systemd-run --unit=port-taker python3 -m http.server --bind 0.0.0.0 {port}"
        f" && timeout 20 sh -c 'until curl -so /dev/null http://127.0.0.1:{port}/; do :; done'"
    )
    try:
        said = refused(server_name, nginx_https_port=port)
        assert "the configuration isn't in use" in said
        assert client.get("/").status == 200
    finally:
        host.check_output("systemctl stop port-taker")
        # Another test looks for unexpected emergencies.
        log = "/var/log/nginx/error.log"
        host.check_output(
            f"grep '\\[emerg\\].*bind()' {log} && sed '/\\[emerg\\].*bind()/d' {log} > {log}.kept"
            f" && cat {log}.kept > {log} && rm {log}.kept"
        )
    applied(server_name)
    assert client.get("/").status == 200
