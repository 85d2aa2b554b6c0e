"""The alert rules of role prometheus: expressions, thresholds, and the command that helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

WATCHDOG = "Watchdog"
GROUP = "bedstone"


@dataclass(frozen=True)
class Threshold:
    """A number that the operator can set.

    Attributes:
        default: its value when it is not set.
        most: the largest value; the smallest is 1.

    """

    default: int
    most: int


# meta/argument_specs.yml describes each; a test compares.
THRESHOLDS = {
    "error_percent": Threshold(5, 100),
    "latency_milliseconds": Threshold(1000, 600_000),
    "container_memory_percent": Threshold(90, 100),
    "restarts": Threshold(3, 1000),
    "connections_percent": Threshold(80, 100),
    "authentication_failures": Threshold(10, 1_000_000),
    "redis_memory_percent": Threshold(90, 100),
    "queue_length": Threshold(1000, 100_000_000),
    "disk_free_percent": Threshold(10, 99),
    "memory_free_percent": Threshold(5, 99),
    "backup_hours": Threshold(26, 1000),
    "certificate_used_percent": Threshold(80, 99),
    "stale_minutes": Threshold(150, 10_000),
}


@dataclass(frozen=True)
class Rule:
    """An alert.

    Attributes:
        name: its name, in CamelCase as usual.
        when: the condition in words, with thresholds in braces.
        expression: the condition in PromQL, with thresholds as `%(name)s`.
        minutes: how long it holds before the alert fires.
        severity: `critical` (people are affected, or soon will be) or `warning`.
        summary: one sentence, a template of Prometheus.
        command: what helps, a template as well.

    """

    name: str
    when: str
    expression: str
    minutes: int
    severity: str
    summary: str
    command: str


_SITE = "`ansible-playbook playbooks/site.yml -i inventories/NAME`"
_DISKS = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|fuse.*|nsfs|overlay|autofs"'
_RATIO = "{{ $value | humanizePercentage }}"
_OF_APP = "{{ $labels.app }}, service {{ $labels.service }}"
_COPY = "{{ $labels.kind }} of {{ $labels.app }} at {{ $labels.destination }}"

RULES = (
    # --- requests ---
    Rule(
        "HighErrorRate",
        "more than {error_percent} % of a service's answers are 5xx",
        'sum by (app, service, instance) (rate(bedstone_http_requests_total{code=~"5.."}[5m]))'
        " / sum by (app, service, instance) (rate(bedstone_http_requests_total[5m]))"
        " > %(error_percent)s / 100",
        5,
        "critical",
        f"{_RATIO} of the answers of {_OF_APP}, are errors",
        "`bedstone logs {{ $labels.app }}` shows them; after a release `bedstone rollback "
        "{{ $labels.app }}` returns to the previous one",
    ),
    Rule(
        "HighLatency",
        "the 95th percentile of a service's response times exceeds {latency_milliseconds} ms",
        "histogram_quantile(0.95, sum by (app, service, instance, le)"
        " (rate(bedstone_http_request_duration_seconds_bucket[5m])))"
        " > %(latency_milliseconds)s / 1000",
        5,
        "warning",
        f"5 % of the requests to {_OF_APP}, take {{{{ $value | humanizeDuration }}}} or longer",
        "`bedstone status {{ $labels.app }}` shows slow queries and missing resources; "
        "more `replicas` or `memory_mb` of the service, then "
        "`ansible-playbook playbooks/deploy.yml -i inventories/NAME`",
    ),
    # --- servers ---
    Rule(
        "ServerDown",
        "no exporter of a server answers",
        'max by (instance) (up{job!~"prometheus|alertmanager"}) == 0',
        2,
        "critical",
        "{{ $labels.instance }} does not answer",
        "`ssh {{ $labels.instance }} sudo bedstone status`; a lost server comes back by "
        "`ansible-playbook playbooks/rebuild.yml -i inventories/NAME`",
    ),
    Rule(
        "ExporterDown",
        "one exporter of a server that answers does not",
        "up == 0 unless on (instance)"
        ' (max by (instance) (up{job!~"prometheus|alertmanager"}) == 0)',
        5,
        "warning",
        "{{ $labels.job }} on {{ $labels.instance }} does not answer",
        f"`systemctl --failed` on {{{{ $labels.instance }}}}, then {_SITE}",
    ),
    Rule(
        "DiskAlmostFull",
        "less than {disk_free_percent} % of a disk, or of its inodes, is free",
        f"node_filesystem_avail_bytes{{{_DISKS}}} / (node_filesystem_size_bytes{{{_DISKS}}} > 0)"
        " < %(disk_free_percent)s / 100"
        f" or node_filesystem_files_free{{{_DISKS}}} / (node_filesystem_files{{{_DISKS}}} > 0)"
        " < %(disk_free_percent)s / 100",
        10,
        "critical",
        f"{_RATIO} of {{{{ $labels.mountpoint }}}} on {{{{ $labels.instance }}}} is free",
        "`du -xh --max-depth=2 {{ $labels.mountpoint }} | sort -h | tail` names what takes the "
        "room; `docker system df` and `bedstone backups` show images and backups",
    ),
    Rule(
        "DiskFullSoon",
        "a disk that is 70 % full will be full within a day, by the last six hours",
        f"predict_linear(node_filesystem_avail_bytes{{{_DISKS}}}[6h], 24 * 3600) < 0"
        f" and node_filesystem_avail_bytes{{{_DISKS}}}"
        f" / (node_filesystem_size_bytes{{{_DISKS}}} > 0) < 0.3",
        60,
        "warning",
        "{{ $labels.mountpoint }} on {{ $labels.instance }} will be full within a day",
        "`du -xh --max-depth=2 {{ $labels.mountpoint }} | sort -h | tail` names what takes the "
        "room; `bedstone status` shows how the databases grow",
    ),
    Rule(
        "MemoryAlmostFull",
        "less than {memory_free_percent} % of a server's memory is available",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"
        " < %(memory_free_percent)s / 100",
        10,
        "critical",
        f"{_RATIO} of the memory of {{{{ $labels.instance }}}} is available",
        "`systemd-cgtop -m` on {{ $labels.instance }} names what uses it; lower `memory_mb` of a "
        "service, or a larger server",
    ),
    # --- containers ---
    Rule(
        "ContainerMemory",
        "a container uses more than {container_memory_percent} % of its limit",
        "bedstone_container_memory_bytes / (bedstone_container_memory_limit_bytes > 0)"
        " > %(container_memory_percent)s / 100",
        5,
        "warning",
        f"{_OF_APP}, uses {_RATIO} of its memory",
        "a larger `services.{{ $labels.service }}.memory_mb`, then "
        "`ansible-playbook playbooks/deploy.yml -i inventories/NAME`; until then `bedstone restart "
        "{{ $labels.app }}`",
    ),
    Rule(
        "ContainerOutOfMemory",
        "the kernel killed a process of a container in the last 15 minutes",
        "increase(bedstone_container_oom_kills_total[15m]) > 0",
        0,
        "critical",
        f"a process of {_OF_APP}, was killed at its memory limit",
        "a larger `services.{{ $labels.service }}.memory_mb`, then "
        "`ansible-playbook playbooks/deploy.yml -i inventories/NAME`",
    ),
    Rule(
        "ContainerRestarts",
        "a service was restarted more than {restarts} times in an hour",
        "increase(bedstone_container_restarts_total[1h]) > %(restarts)s",
        0,
        "critical",
        f"{_OF_APP}, restarted {{{{ $value | humanize }}}} times in an hour",
        "`bedstone logs {{ $labels.app }}` shows why; after a release `bedstone rollback "
        "{{ $labels.app }}` returns to the previous one",
    ),
    Rule(
        "ContainerDown",
        "a declared container does not run",
        "bedstone_container_running == 0",
        5,
        "critical",
        f"{_OF_APP}, does not run",
        "`bedstone status {{ $labels.app }}` says why, `bedstone restart {{ $labels.app }}` "
        "starts it",
    ),
    # --- databases and queues ---
    Rule(
        "PostgresqlConnections",
        "PostgreSQL has more than {connections_percent} % of its connections in use",
        "sum by (instance) (pg_stat_database_numbackends)"
        " / max by (instance) (pg_settings_max_connections) > %(connections_percent)s / 100",
        5,
        "warning",
        f"{_RATIO} of PostgreSQL's connections on {{{{ $labels.instance }}}} are in use",
        "`database: {pool: true}` of the app that has the most (`bedstone status`), or a larger "
        f"`postgresql_max_connections`, then {_SITE}",
    ),
    Rule(
        "PostgresqlAuthenticationFailures",
        "PostgreSQL refused more than {authentication_failures} logins in 5 minutes",
        "sum by (instance) (increase(bedstone_postgresql_authentication_failures_total[5m]))"
        " > %(authentication_failures)s",
        0,
        "warning",
        "PostgreSQL on {{ $labels.instance }} refused {{ $value | humanize }} logins in 5 minutes",
        "`journalctl -u 'postgresql@*' -g 'authentication failed'` names role and address; after a "
        "rotation `bedstone restart APP` gives the app its new password",
    ),
    Rule(
        "RedisMemory",
        "a Redis instance that evicts nothing uses more than {redis_memory_percent} %",
        "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > %(redis_memory_percent)s / 100"
        ' unless on (app, redis, instance) redis_instance_info{maxmemory_policy!="noeviction"}',
        5,
        "critical",
        f"Redis {{{{ $labels.redis }}}} of {{{{ $labels.app }}}} uses {_RATIO} of its memory and "
        "will refuse writes",
        f"a larger `redis.store.memory_mb`, then {_SITE}",
    ),
    Rule(
        "QueueLong",
        "a queue has more than {queue_length} tasks",
        "bedstone_queue_length > %(queue_length)s",
        10,
        "warning",
        "{{ $value | humanize }} tasks wait in {{ $labels.queue }} of {{ $labels.app }}",
        "`bedstone status {{ $labels.app }}` shows whether the workers run; more `replicas` of the "
        "worker, then `ansible-playbook playbooks/deploy.yml -i inventories/NAME`",
    ),
    # --- what the program itself watches ---
    Rule(
        "BackupMissing",
        "no complete backup for {backup_hours} hours, at one of its places",
        "time() - bedstone_backup_last_success_timestamp_seconds > %(backup_hours)s * 3600",
        0,
        "critical",
        f"the last {_COPY}, is {{{{ $value | humanizeDuration }}}} old",
        "`bedstone backup` makes one, `bedstone copy` sends it; `bedstone backups` shows what is "
        "there",
    ),
    Rule(
        "BackupFailed",
        "the last backup or its copy failed, or the copy there is wrong",
        "bedstone_backup_failed == 1 or bedstone_backup_problem == 1",
        0,
        "critical",
        f"the last {_COPY}, failed",
        "`bedstone backups` says why, `bedstone backup` tries again",
    ),
    Rule(
        "BackupVerificationFailed",
        "the last test restore of a backup failed",
        "bedstone_backup_verification_failed == 1",
        0,
        "critical",
        f"the {_COPY}, can't be restored",
        "`bedstone verify` tries again and says why; `bedstone backup` makes another one",
    ),
    Rule(
        "CertificateExpires",
        "{certificate_used_percent} % of a certificate's life has passed: it was not renewed",
        "(time() - bedstone_certificate_not_before_timestamp_seconds)"
        " / (bedstone_certificate_not_after_timestamp_seconds"
        " - bedstone_certificate_not_before_timestamp_seconds)"
        " > %(certificate_used_percent)s / 100",
        0,
        "critical",
        f"{_RATIO} of the life of {{{{ $labels.place }}}} on {{{{ $labels.instance }}}} has passed",
        f"`bedstone certificates renew` for one by ACME, else {_SITE}",
    ),
    Rule(
        "BedstoneAlarm",
        "`bedstone alarms` has a red one",
        'bedstone_alarm{severity="red"} == 1',
        0,
        "critical",
        "{{ $labels.instance }}: {{ $labels.alarm }}",
        "`bedstone alarms` on {{ $labels.instance }} names the command",
    ),
    Rule(
        "MetricsStale",
        "`bedstone metrics` is older than {stale_minutes} minutes, missing or incomplete",
        "time() - bedstone_metrics_timestamp_seconds > %(stale_minutes)s * 60"
        " or time() - bedstone_live_metrics_timestamp_seconds > 10 * 60"
        " or bedstone_collector_success == 0"
        " or node_textfile_scrape_error == 1"
        " or node_textfile_scrape_error unless on (instance) bedstone_metrics_timestamp_seconds",
        5,
        "warning",
        "the metrics of apps and backups on {{ $labels.instance }} are old or incomplete",
        "`systemctl start bedstone-metrics.service` on {{ $labels.instance }}, then `bedstone "
        "metrics` says what fails",
    ),
    # --- the monitoring itself ---
    Rule(
        "NotificationsFail",
        "Alertmanager could not deliver a message in the last 15 minutes",
        "sum by (instance, integration) (increase(alertmanager_notifications_failed_total[15m]))"
        " > 0",
        0,
        "critical",
        "Alertmanager on {{ $labels.instance }} can't deliver by {{ $labels.integration }}",
        "`journalctl -u bedstone-alertmanager` says why; `bedstone notify` tests the hooks",
    ),
    Rule(
        "ConfigurationNotLoaded",
        "Prometheus or Alertmanager refused its configuration",
        "prometheus_config_last_reload_successful == 0"
        " or alertmanager_config_last_reload_successful == 0",
        5,
        "warning",
        "{{ $labels.job }} on {{ $labels.instance }} works with an older configuration",
        "`journalctl -u bedstone-{{ $labels.job }}` says why",
    ),
    Rule(
        WATCHDOG,
        "always: its absence shows that alerts arrive no longer",
        "vector(1)",
        0,
        "none",
        "Prometheus and Alertmanager work",
        "nothing; it goes to `prometheus_heartbeat_url` alone",
    ),
)


def values(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the value of every threshold.

    Args:
        given: the role's `prometheus_thresholds`.

    Raises:
        ValueError: one is unknown or out of range.

    """
    for name, value in given.items():
        if name not in THRESHOLDS:
            raise ValueError(
                f"prometheus_thresholds has no {name!r}. Known are {', '.join(THRESHOLDS)}."
            )
        most = THRESHOLDS[name].most
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(
                f"prometheus_thresholds.{name} is {value!r}: a whole number from 1 to {most}. "
                f"Example: {THRESHOLDS[name].default}."
            )
    return {name: given.get(name, entry.default) for name, entry in THRESHOLDS.items()}


def rule_group(thresholds: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of the rules file.

    Args:
        thresholds: the role's `prometheus_thresholds`.
        without: the role's `prometheus_without_rules`.

    Raises:
        ValueError: a threshold can't be used, or a rule that is left out is unknown.

    """
    names = [rule.name for rule in RULES]
    for name in without:
        if name not in names:
            raise ValueError(
                f"prometheus_without_rules: there is no rule {name!r}. There are "
                f"{', '.join(names)}."
            )
    numbers = values(thresholds)
    rules = [_as_prometheus(rule, numbers) for rule in RULES if rule.name not in without]
    return {"groups": [{"name": GROUP, "rules": rules}]}


def _as_prometheus(rule: Rule, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expression % numbers,
        "for": f"{rule.minutes}m",
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "command": rule.command},
    }


def table() -> str:
    """Return the rules with their default thresholds, as a table of the documentation."""
    numbers = values({})
    head = "| alert | fires when | for | severity |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{rule.name}` | {rule.when.format(**numbers)} | "
        f"{f'{rule.minutes} min' if rule.minutes else 'at once'} | {rule.severity} |\n"
        for rule in RULES
    )
