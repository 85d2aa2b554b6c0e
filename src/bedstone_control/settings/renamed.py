"""List the settings that earlier versions had under another name, or had at all.

An entry stays for as long as an inventory may still have the old name: the check of the settings
then names the new one, where an unknown name alone would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping

_OF_DEBIAN = "The release of Debian is read from the server: delete the line."

# A variable (a setting with its prefix, or a role's argument) to its new name.
RENAMED: Mapping[str, str] = {}
# A variable that is gone to what takes its place.
REMOVED: Mapping[str, str] = {
    f"{role}_debian_release": _OF_DEBIAN
    for role in ("base", "docker", "nginx", "pgbackrest", "postgresql")
} | {
    "postgresql_client_certificates": "Each app asks for its own, and gets one, with "
    "`database: {client_certificate: true}`.",
}
# A key inside of a setting, as (name of the model, key), to its new name.
RENAMED_KEYS: Mapping[tuple[str, str], str] = {}
