"""The certificates module: runs on the server. The action plugin of the same name calls it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedstone_certificates import Certificates, Pair
from ansible.module_utils.bedstone_manifest import locked
from ansible.module_utils.bedstone_run import ConvergeError, run

DOCUMENTATION = r"""
module: certificates
short_description: Keep certificates of your own authority issued and renewed
description:
  - Each certificate's private key is made on the server and never leaves it. The authority's key
    stays on the controller, which signs the server's requests.
  - A certificate is issued when there is none, when its names, usage or authority changed, when
    its key doesn't belong to it, or when its end is near. A renewal keeps the key.
  - The pair lies in C(/etc/bedstone/tls/NAME.crt) and C(NAME.key). Pairs which an earlier run made
    and this one no longer declares are removed.
  - When nothing is due, this is one round trip to the server.
options:
  authority:
    description: The authority that signs, as PEM texts. Neither is written to the server.
    type: dict
    required: true
    suboptions:
      certificate:
        description: Its certificate.
        type: str
        required: true
      key:
        description: Its private key.
        type: str
        required: true
  also_trusted:
    description: Certificates of further authorities, only checked here.
    type: list
    elements: str
    default: []
  certificates:
    description: All certificates of this server.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of its files.
        type: str
        required: true
      common_name:
        description: Its subject; the first of C(names) without it. For a PostgreSQL client, the
          role's name.
        type: str
      names:
        description: DNS names and IP addresses it is for; a server's certificate needs one.
        type: list
        elements: str
        default: []
      usage:
        description: What it proves.
        type: str
        choices: [server, client]
        default: server
      days:
        description: How long it is valid, in days; at most 397 for a server, 825 for a client.
        type: int
        default: 90
      renew_before_days:
        description: It is renewed on a run that finds fewer days left.
        type: int
        default: 30
      owner:
        description: Who owns both files.
        type: str
        default: root
      group:
        description: Whose members can read the key.
        type: str
        default: ssl-cert
      reload:
        description: Units that reload (restart if they can't) when it changed, if they run.
        type: list
        elements: str
        default: []
  trusted_first:
    description: Fail where this server, or a container on it, doesn't trust C(authority) yet.
    type: bool
    default: false
  issued_after:
    description: A certificate from before this time (C(2026-11-29T12:00:00Z)) is issued again, on
      a new key.
    type: str
    default: ""
  only_check:
    description: Check the arguments, the authority included, and do nothing more.
    type: bool
    default: false
attributes:
  check_mode:
    description: Nothing changes; what is due is reported.
    support: full
  diff_mode:
    description: Says which certificate is issued and why.
    support: full
author: Bedstone
"""

EXAMPLES = r"""
- name: Issue the certificates
  certificates:
    authority:
      certificate: "{{ ca_certificate }}"
      key: "{{ ca_key }}"
    certificates:
      - name: postgresql
        names: [postgres, db.example.com, 172.17.0.1]
        reload: [postgresql.service]
      - name: payments
        usage: client
        common_name: payments_app
"""

RETURN = r"""
issued:
  description: Why each certificate was issued, by its name.
  returned: always
  type: dict
  sample: {postgresql: [21 days are left]}
changed_paths:
  description: Keys and certificates that were written or given other owners.
  returned: always
  type: list
  elements: str
removed_paths:
  description: Keys and certificates that are no longer declared.
  returned: always
  type: list
  elements: str
units:
  description: The units that were reloaded or restarted.
  returned: always
  type: dict
  sample: {reload: [postgresql.service]}
"""


def main() -> None:
    """Run one of the steps that the action plugin requests."""
    module = AnsibleModule(
        # The arguments from the action plugin; those that users write are in DOCUMENTATION.
        argument_spec={
            "step": {"type": "str", "choices": ["distrusting", "inspect", "request", "install"]},
            "pairs": {"type": "list", "elements": "dict", "no_log": False},
            "authority": {"type": "str", "default": ""},
            "names": {"type": "list", "elements": "str", "default": []},
            "fresh": {"type": "list", "elements": "str", "default": []},
            "install": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(
            msg="certificates makes root's files and has to be root on the server. Set "
            "`become: true`."
        )
    step = module.params["step"]
    done: dict[str, object] = {}
    changed = False
    try:
        with contextlib.nullcontext() if module.check_mode else locked(Path("/")):
            pairs = [Pair(**pair) for pair in module.params["pairs"]]
            certificates = Certificates(pairs, run=run, check=module.check_mode)
            try:
                if step == "distrusting":
                    done = {"distrusting": certificates.distrusting(module.params["authority"])}
                elif step == "inspect":
                    done = certificates.inspect()
                elif step == "request":
                    names, fresh = module.params["names"], module.params["fresh"]
                    done = {"requests": certificates.requests(names, fresh)}
                else:
                    certificates.install(module.params["install"])
            finally:
                changed = bool(certificates.changed_paths or certificates.removed_paths)
    except (ConvergeError, OSError) as error:
        module.fail_json(msg=str(error), changed=changed)
    module.exit_json(
        changed=changed,
        changed_paths=certificates.changed_paths,
        removed_paths=certificates.removed_paths,
        units=certificates.units,
        **done,
    )


if __name__ == "__main__":
    main()
