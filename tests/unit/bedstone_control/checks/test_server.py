"""Servers that can't be used, by what the survey found there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest

from bedstone_control.checks import server
from bedstone_control.settings.backup import Backup

LIMITS = server.Limits(900, 4096, 300)
NOW = 1_795_000_000.0
GOOD: dict[str, Any] = {
    "user_id": 0,
    "python": [3, 13, 5],
    "distribution": "debian",
    "distribution_name": "Debian",
    "release": "trixie",
    "version": "13",
    "full_version": "13.2",
    "memory_mb": 1967,
    "cpus": 2,
    "free_mb": {"/": 20000, "/var/lib/docker": 20000},
    "time": NOW + 2,
    "hostname": "web1",
    "address": "192.0.2.10",
    "interface": "eth0",
    "interface_ipv6": None,
    "nameservers": ["192.0.2.53"],
    "open_ports": {"22": "sshd"},
    "listeners": {"80": "nginx", "5432": "postgres"},
    "apps": {},
    "retention": None,
}


def test_good_server_has_no_problem() -> None:
    assert server.check("web1", GOOD, LIMITS, NOW) == []


@pytest.mark.parametrize(
    ("change", "message", "example"),
    [
        ({"user_id": 1000}, "without root's rights", "ansible_become: true"),
        (
            {"version": "12", "release": "bookworm"},
            "runs Debian 12; Bedstone supports Debian 13 (trixie) only",
            "Debian 13",
        ),
        (
            {"distribution": "ubuntu", "distribution_name": "Ubuntu", "version": "24.04"},
            "runs Ubuntu 24.04; Bedstone supports Debian 13 (trixie) only",
            "Debian 13",
        ),
        ({"python": [3, 9, 2]}, "python3 is 3.9.2; 3.11 is the oldest", "Debian 13"),
        ({"memory_mb": 480}, "480 MiB of memory; 900 are the least", "preflight_min_memory_mb"),
        ({"free_mb": {"/": 900}}, "/ has 900 MiB free; 4096 are the least", "docker system df"),
        ({"time": NOW - 4000}, "4000 seconds behind this machine's", "timedatectl"),
        ({"time": NOW + 4000}, "4000 seconds ahead of this machine's", "timedatectl"),
        ({"listeners": {"80": "apache2"}}, "`apache2` listens on port 80", "sport = :80"),
    ],
)
def test_problem_is_told(change: dict[str, Any], message: str, example: str) -> None:
    problems = server.check("web1", GOOD | change, LIMITS, NOW)
    assert len(problems) == 1
    assert message in problems[0].message
    assert example in problems[0].example
    assert problems[0].where == "server web1"


def test_one_full_disk_is_one_problem() -> None:
    full = {"free_mb": {"/": 10, "/var/lib/docker": 10, "/var/lib/postgresql": 10}}
    assert len(server.check("web1", GOOD | full, LIMITS, NOW)) == 1


def test_all_problems_come_at_once() -> None:
    bad = {"user_id": 1, "memory_mb": 1, "time": 0, "listeners": {"443": "caddy"}}
    assert len(server.check("web1", GOOD | bad, LIMITS, NOW)) == 4


def test_server_without_python_is_told_with_what_it_said() -> None:
    problem = server.unreadable("web1", "\n/bin/sh: 1: /usr/bin/python3: not found\n")
    assert "python3: not found" in problem.message
    assert "apt-get install -y python3" in problem.example


def test_survey_runs_alone_and_finds_what_the_checks_read() -> None:
    program = files("bedstone_control.checks").joinpath("survey.py").read_text()
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, check=True, text=True
    )
    found = json.loads(result.stdout)
    assert set(found) == set(GOOD)
    assert found["memory_mb"] > 100
    assert found["free_mb"]["/"] > 0
    assert found["time"] > NOW - 10**8


def test_facts_have_the_names_that_ansible_uses() -> None:
    facts = server.facts(GOOD)
    assert facts["ansible_distribution"] == "Debian"
    assert facts["ansible_distribution_release"] == "trixie"
    assert facts["ansible_distribution_version"] == "13.2"
    assert facts["ansible_distribution_major_version"] == "13"
    assert facts["ansible_memtotal_mb"] == 1967
    assert facts["ansible_processor_vcpus"] == 2
    assert facts["ansible_default_ipv4"] == {"address": "192.0.2.10", "interface": "eth0"}
    assert facts["ansible_default_ipv6"] == {}
    assert facts["ansible_dns"] == {"nameservers": ["192.0.2.53"]}
    assert facts["bedstone_open_ports"] == {"22": "sshd"}
    assert server.facts(GOOD | {"address": None})["ansible_default_ipv4"] == {}


@pytest.mark.parametrize(
    ("app", "message", "example"),
    [
        (
            {"services": {"web": {"cpus": 64}}},
            "The service `web` of `shop` has `cpus: 64`; it has 2 processors.",
            "cpus: 2",
        ),
        ({"jobs": {"clean": {"cpus": 2.5}}}, "job `clean` of `shop` has `cpus: 2.5`", "cpus: 2"),
        ({"services": {"web": {"memory_mb": 4096}}}, "`memory_mb: 4096`; it has 1967", "983"),
        (
            {"services": {"web": {"memory_mb": 700, "replicas": 3}}},
            "`memory_mb: 700` in each of 3 replicas; it has 1967",
            "327",
        ),
        ({"max_body_mb": 10240}, "`max_body_mb: 10240`; an upload lies on the disk twice", "5000"),
    ],
)
def test_limit_beyond_the_server_is_refused(
    app: dict[str, Any], message: str, example: str
) -> None:
    [problem] = server.check("web1", GOOD, LIMITS, NOW, [{"name": "shop"} | app])
    assert message in problem.message
    assert example in problem.example
    assert server.check("web1", GOOD, LIMITS, NOW) == []


def test_settings_that_are_broken_are_left_to_their_own_check() -> None:
    apps = ["shop", {"services": ["web"]}, {"services": {"web": None}, "max_body_mb": "20"}]
    assert server.check("web1", GOOD, LIMITS, NOW, apps) == []


SHOP = {"domains": ["shop.example.com"], "retired": False}
GONE = {"domains": ["shop.example.com"], "retired": True}


@pytest.mark.parametrize(
    ("there", "wanted", "messages"),
    [
        ({}, server.Wanted({"shop": ["shop.example.com"]}), []),
        ({"shop": SHOP}, server.Wanted({"shop": ["shop.example.com"]}), []),
        ({"shop": SHOP}, server.Wanted({}), ["The app shop serves there (shop.example.com)"]),
        ({"shop": SHOP}, server.Wanted({}, frozenset({"shop"})), []),
        ({"shop": GONE}, server.Wanted({}), []),
        # Renamed: neither is the old one stopped nor does the new one begin empty by itself.
        (
            {"shop": SHOP},
            server.Wanted({"store": ["shop.example.com"]}),
            ["The app shop serves there", "The new app store has the domain shop.example.com"],
        ),
        (
            {"shop": SHOP},
            server.Wanted({"store": ["shop.example.com"]}, frozenset({"shop"})),
            ["The new app store has the domain shop.example.com of shop"],
        ),
        (
            {"shop": GONE},
            server.Wanted({"store": ["shop.example.com"]}),
            ["The new app store has the domain shop.example.com of shop"],
        ),
        (
            {"shop": GONE},
            server.Wanted({"store": ["shop.example.com"]}, start_empty=frozenset({"store"})),
            [],
        ),
        ({"shop": GONE}, server.Wanted({"store": ["store.example.com"]}), []),
        ({"shop": GONE}, server.Wanted({"shop": ["shop.example.com"]}), []),
        # A domain that moves from one declared app to another takes nothing away.
        (
            {"shop": SHOP},
            server.Wanted({"shop": ["old.example.com"], "store": ["shop.example.com"]}),
            [],
        ),
    ],
)
def test_app_is_taken_away_or_begins_empty_only_by_its_name(
    there: dict[str, Any], wanted: server.Wanted, messages: list[str]
) -> None:
    problems = list(server.check_apps("web1", {"apps": there}, wanted))
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert message in problem.message
    for problem in problems:
        assert "retire=shop" in problem.example or "start_empty=store" in problem.example


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (None, None),
        ({"keep_days": 7, "keep_weeks": 4, "keep_months": 6, "keep_at_least": 9}, None),
        ({"keep_days": 31, "keep_point_in_time_days": 14}, "keep_days from 31 to 30"),
        ({"keep_point_in_time_days": 14}, "keep_point_in_time_days from 14 to 7"),
        ({"keep_days": "many"}, None),
    ],
)
def test_lower_retention_is_told_with_what_lets_it_be(
    there: dict[str, Any] | None, words: str | None
) -> None:
    said = server.lowered_retention("web1", GOOD | {"retention": there}, Backup.model_validate({}))
    if words is None:
        assert said is None
    else:
        assert f"web1: the settings lower {words}" in str(said)
        assert "`bedstone retention --accept`" in str(said)


def test_archive_that_is_switched_off_lowers_its_retention() -> None:
    found = GOOD | {"retention": {"keep_point_in_time_days": 7}}
    said = server.lowered_retention("db1", found, Backup.model_validate({"point_in_time": False}))
    assert "keep_point_in_time_days from 7 to 0" in str(said)
