"""The converge module: runs on the server. The action plugin of the same name calls it."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedstone_converge import Converge
from ansible.module_utils.bedstone_desired import unpack
from ansible.module_utils.bedstone_run import ConvergeError, run

DOCUMENTATION = r"""
module: converge
short_description: Bring one part of a server into its declared state, in one round trip
description:
  - Declares packages, files, directories, links, commands and systemd units together, and sends
    all of it to the server in a single call. When nothing differs, that call is the whole cost.
  - A role's templates lie in a tree laid out as on the server; C(tree) names it.
  - Everything declared is validated on a staged copy before the first file moves into place. A
    validator that fails leaves the server as it was.
  - Files are replaced atomically. What has to follow from a change (reload, restart, command) is
    written down on the server first, so that the next run does it when this one is killed.
  - Files which an earlier run made and this one no longer declares are removed. Which those are
    stands in C(/var/lib/bedstone/converge/NAME.json) on the server.
  - The order is packages, directories, files, links, removals, commands, units.
options:
  name:
    description:
      - Name of the manifest on the server. Two tasks of one role need two names.
      - The default is the role's name, with a dash and the tree's name when that is another.
    type: str
  packages:
    description:
      - Debian packages that are installed if they are missing, without recommended ones.
      - C(name=1.2*) asks for a version.
    type: list
    elements: str
    default: []
  tree:
    description:
      - Folder below the role's C(templates), laid out like C(/). Files that end in C(.j2) are
        rendered and lose that ending, others are copied as they are.
      - A link in the tree is followed.
    type: str
  attributes:
    description: Owner, mode and so on of files of the tree; later entries win.
    type: list
    elements: dict
    default: []
    suboptions:
      match:
        description: Pattern of absolute paths; C(**) crosses directories. It has to fit a file.
        type: str
        required: true
      owner:
        description: User name or number, root without it.
        type: str
      group:
        description: Group name or number, root without it.
        type: str
      mode:
        description: Octal digits in quotes, V("0644") without it.
        type: str
      sensitive:
        description: Nothing of the content is shown in differences and errors.
        type: bool
      create_only:
        description: A file that exists is left alone, whatever it holds.
        type: bool
  files:
    description: Further files. Each has exactly one of template, content, source.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies on the server.
        type: path
        required: true
      template:
        description: Template below the role's C(templates).
        type: str
      variables:
        description: Variables for this template alone, beside all others.
        type: dict
      content:
        description: The content itself.
        type: str
      source:
        description:
          - File on the controller, absolute or below the role's C(files). It is transferred only
            when its SHA-256 differs. A file encrypted with Ansible's vault is decrypted.
        type: path
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      mode:
        description: Octal digits in quotes.
        type: str
        default: "0644"
      sensitive:
        description: Nothing of the content is shown in differences and errors.
        type: bool
        default: false
      create_only:
        description: A file that exists is left alone, whatever it holds.
        type: bool
        default: false
  directories:
    description: Directories. Missing parents of anything are made by themselves (root's, 0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies on the server.
        type: path
        required: true
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      mode:
        description: Octal digits in quotes.
        type: str
        default: "0755"
  links:
    description: Symbolic links.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies on the server.
        type: path
        required: true
      target:
        description: Where it points.
        type: str
        required: true
  absent:
    description: Files, links and empty directories that are removed. A unit's file is removed
      after the unit was stopped and disabled.
    type: list
    elements: path
    default: []
  keep:
    description: Patterns of paths that are not removed although nobody declares them any more. They
      stay known, so that a later run without this removes them; C(kept_paths) names them.
    type: list
    elements: str
    default: []
  validate:
    description: Programs that have to accept the declared files before any of them counts.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description:
          - The program and its arguments, no shell.
          - It sees the declared files at their real paths over the server's own (in a mount
            namespace of its own). Where an argument holds C({stage}), that is the path of a
            directory laid out like C(/) with only the declared files instead.
        type: list
        elements: str
        required: true
  commands:
    description: Programs that run after the files changed and before the units.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description: The program and its arguments, no shell.
        type: list
        elements: str
        required: true
      when_changed:
        description: Patterns of paths; it runs when one of them was changed or removed.
        type: list
        elements: str
        default: []
      creates:
        description: It runs too when this path doesn't exist.
        type: path
  units:
    description: systemd units, in the order in which they are started.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Full name, with its ending.
        type: str
        required: true
      enabled:
        description: Whether it starts with the server; left alone without it.
        type: bool
      state:
        description: Whether it runs; left alone without it.
        type: str
        choices: [started, stopped]
      masked:
        description: Whether it is masked; left alone without it.
        type: bool
      reload_on:
        description: Patterns of paths; it reloads when one of them changed (restarts if it can't).
        type: list
        elements: str
        default: []
      restart_on:
        description: Patterns of paths; it restarts when one of them changed.
        type: list
        elements: str
        default: []
attributes:
  check_mode:
    description: Nothing changes; what would change is reported. Validators run, except those
      whose packages are missing.
    support: full
  diff_mode:
    description: Shows contents, owners and modes; of sensitive files only that they change.
    support: full
author: Bedstone
"""

EXAMPLES = r"""
- name: Configure nginx
  converge:
    packages: [nginx]
    tree: nginx
    attributes:
      - {match: "/etc/nginx/secrets/*", mode: "0600", sensitive: true}
    absent: [/etc/nginx/sites-enabled/default]
    validate:
      - command: [nginx, -t, -q]
    units:
      - name: nginx.service
        enabled: true
        state: started
        reload_on: ["/etc/nginx/**"]
        restart_on: ["/etc/systemd/system/nginx.service.d/*"]

- name: Install the host program
  converge:
    files:
      - {path: /usr/local/bin/bedstone, source: "{{ zipapp }}", mode: "0755"}
    validate:
      - command: [/usr/local/bin/bedstone, --version]
"""

RETURN = r"""
changed_paths:
  description: Files, directories and links that were made or changed.
  returned: always
  type: list
  elements: str
removed_paths:
  description: Files, links and empty directories that were removed.
  returned: always
  type: list
  elements: str
kept_paths:
  description: What is no longer declared and stays because of C(keep).
  returned: always
  type: list
  elements: str
packages:
  description: Packages that were installed.
  returned: always
  type: list
  elements: str
commands:
  description: Commands that ran.
  returned: always
  type: list
  elements: list
units:
  description: The units each of systemctl's verbs was used on.
  returned: always
  type: dict
  sample: {start: [nginx.service], daemon_reload: [systemd]}
"""


def main() -> None:
    """Read the arguments, converge, report."""
    module = AnsibleModule(
        # The arguments from the action plugin; those that users write are in DOCUMENTATION.
        argument_spec={
            "name": {"type": "str", "required": True},
            "desired": {"type": "str", "required": True, "no_log": True},
            "uploads": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(
            msg="converge changes the system and has to be root on the server. Set `become: true`."
        )
    converge = Converge(
        unpack(module.params["desired"]),
        run=run,
        uploads=module.params["uploads"],
        check=module.check_mode,
        with_diff=module._diff,  # noqa: SLF001 - Ansible has no public name for it
    )
    try:
        result = converge.converge()
    except (ConvergeError, OSError) as error:
        failed = converge.result.as_dict()
        for warning in failed.pop("warnings"):
            module.warn(warning)
        module.fail_json(msg=str(error), **failed)
    done = result.as_dict()
    for warning in done.pop("warnings"):
        module.warn(warning)
    if not module._diff:  # noqa: SLF001
        del done["diff"]
    module.exit_json(**done)


if __name__ == "__main__":
    main()
