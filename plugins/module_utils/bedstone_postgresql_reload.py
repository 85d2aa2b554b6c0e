"""Checks around a reload, which PostgreSQL itself reports as done whatever came of it."""

from __future__ import annotations

import time

from bedstone_postgresql_instance import Instance
from bedstone_postgresql_tls import pair_problems, served_problems

# The postmaster acts on the signal when it next wakes up, within milliseconds.
SETTLE_SECONDS = 5.0

FILES = """
SET lc_messages = 'C';
SELECT json_build_object(
  'settings', (
    SELECT coalesce(json_agg(json_build_array(f.sourcefile, f.sourceline, f.name, f.error)), '[]')
    FROM pg_file_settings f LEFT JOIN pg_settings s USING (name)
    -- A change that waits for a restart is no fault of the file. One that takes a setting out of
    -- the file has no name, only the message.
    WHERE f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster'
      AND f.error !~ 'without restarting the server'),
  'hba', (
    SELECT coalesce(json_agg(json_build_array(
      current_setting('hba_file'), line_number, error)), '[]')
    FROM pg_hba_file_rules WHERE error IS NOT NULL),
  'tls', (
    SELECT json_object_agg(name, coalesce(
      (SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name
       ORDER BY seqno DESC LIMIT 1), s.setting))
    FROM pg_settings s WHERE name IN ('ssl', 'ssl_cert_file', 'ssl_key_file')))
"""

SERVED = """
SELECT json_object_agg(name, setting) FROM pg_settings
WHERE name IN ('ssl', 'ssl_cert_file', 'listen_addresses', 'port')
"""


def before_reload(instance: Instance) -> list[str]:
    """Return what would keep the running server from taking its files as they are now."""
    answer = instance.ask(FILES)
    problems = [
        f"{file}, line {line}: {name}: {error}" for file, line, name, error in answer["settings"]
    ]
    problems += [f"{file}, line {line}: {error}" for file, line, error in answer["hba"]]
    tls = answer["tls"]
    if tls["ssl"] in ("on", "true", "yes", "1"):
        problems += pair_problems(tls["ssl_cert_file"], tls["ssl_key_file"])
    return problems


def after_reload(instance: Instance) -> list[str]:
    """Return what the server doesn't serve although its files say so."""
    limit = time.monotonic() + SETTLE_SECONDS
    while True:
        now = instance.ask(SERVED)
        if now["ssl"] != "on":
            return []
        problems = served_problems(now["listen_addresses"], int(now["port"]), now["ssl_cert_file"])
        if not problems or time.monotonic() > limit:
            return problems
        time.sleep(0.1)
