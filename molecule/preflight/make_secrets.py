"""Makes the secrets that the scenario's settings need."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import yaml

from bedstone_control.roles.secrets import new_secrets
from bedstone_control.settings.root import from_variables

scenario = yaml.safe_load((Path(__file__).parent / "molecule.yml").read_text())
variables = scenario["provisioner"]["inventory"]["group_vars"]["all"]
made = new_secrets(from_variables(variables))["bedstone_secrets"]
target = Path(sys.argv[1]) / "secrets.json"
with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
    json.dump(made, stream)
