"""What scanners made by others say of nginx; docs/security.md has the scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["nginx.service"]
# What gixy finds and is left, with the reason. Anything else fails.
LEFT = {
    # Maintenance answers 503 before the lists: its page is no secret.
    "return_bypasses_allow_deny",
    # A path of this scenario asks for it.
    "proxy_buffering_off",
    # A file is looked for when an error page is sent.
    "try_files_is_evil_too",
}
# Of the scenario's own certificate, which lives two days.
OF_THE_CERTIFICATE = {"cert_expirationStatus", "cert_notAfter", "cert_revocation"}
# What the grade is computed of, without simulations of clients: a third of the whole scan's time.
TESTSSL = (
    "timeout 500 testssl --quiet --color 0 --warnings batch --nodns none --overwrite"
    " --protocols --std --fs --server-defaults --headers --vulnerable"
    " --add-ca /tmp/pay.crt --jsonfile /tmp/testssl.json --ip {address} pay.example.com"
)


def test_gixy_finds_nothing_but_what_is_left_for_a_reason(host: Host, tmp_path: Path) -> None:
    dump = tmp_path / "nginx.conf"
    dump.write_text(host.check_output("nginx -T 2>/dev/null"))
    gixy = [Path(sys.executable).with_name("gixy"), "--format", "json", dump]
    said = subprocess.run(gixy, capture_output=True, text=True, check=False)
    assert {issue["plugin"] for issue in json.loads(said.stdout)} == LEFT, said.stdout


def test_hybrid_of_ml_kem_is_chosen_first(host: Host) -> None:
    said = host.check_output(
        "openssl s_client -connect localhost:443 -servername pay.example.com </dev/null 2>&1"
    )
    assert "Negotiated TLS1.3 group: X25519MLKEM768" in said


def test_testssl_gives_the_best_grade_and_finds_no_weakness(
    host: Host, peer: Host, address: str
) -> None:
    certificate = host.file("/etc/bedstone/tls/pay.crt").content_string
    peer.check_output("printf '%%s' %s > /tmp/pay.crt", certificate)
    scan = peer.run(TESTSSL.format(address=address))
    findings = json.loads(peer.check_output("cat /tmp/testssl.json"))
    found = {finding["id"]: finding["finding"] for finding in findings}
    # A+ with HSTS, A without.
    assert found["overall_grade"] in {"A", "A+"}, scan.stdout
    assert int(found["final_score"]) >= 84
    assert "X25519MLKEM768" in found["FS_KEMs"]
    # WARN is a check that testssl.sh itself could not do.
    harmless = {"OK", "INFO", "WARN"}
    worse = {finding["id"] for finding in findings if finding["severity"] not in harmless}
    assert worse == OF_THE_CERTIFICATE
