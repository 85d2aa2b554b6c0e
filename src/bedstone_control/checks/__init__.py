"""Run every check of the settings, and return all problems in one list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.checks import (
    apps,
    backups,
    certificates,
    content,
    destinations,
    domains,
    edge,
    hooks,
    host_keys,
    jobs,
    logs,
    operators,
    pools,
    published,
    schema,
    secrets,
    sources,
    topology,
    variables,
    verifier,
    written,
)

if TYPE_CHECKING:
    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem


def check_settings(context: Context) -> list[Problem]:
    """Return every problem with the settings, the vault and the inventory.

    Nothing is read but files of the controller, nothing is written.
    """
    problems = list(variables.check(context))
    changed = written.check(context)
    wrong, settings = schema.check(context)
    # What YAML changed says more than that it is of the wrong type.
    wrong = changed + [item for item in wrong if item.where not in {one.where for one in changed}]
    problems += wrong
    later = [
        *apps.check(context, settings),
        *sources.check(context, settings),
        *domains.check(context, settings),
        *edge.check(context, settings),
        *content.check(context, settings),
        *jobs.check(context, settings),
        *backups.check(context, settings),
        *destinations.check(context, settings),
        *hooks.check(context, settings),
        *logs.check(context, settings),
        *operators.check(context, settings),
        *pools.check(context, settings),
        *secrets.check(context, settings),
        *certificates.check(context, settings),
        *topology.check(context, settings),
        *host_keys.check(context),
        *published.check(context, settings),
        *verifier.check(context, settings),
    ]
    return problems + [item for item in later if not _follows(item, wrong)]


def _follows(problem: Problem, causes: list[Problem]) -> bool:
    """Return whether a problem only follows from a value that could not be read."""
    return any(problem.where.startswith(cause.where) for cause in causes)
