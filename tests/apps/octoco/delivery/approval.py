"""Check that an environment of the repository waits for a reviewer's approval.

    python3 delivery/approval.py production

GitHub creates an environment that a workflow names and that isn't there, without any protection,
and the job then runs at once. Needs GITHUB_TOKEN and GITHUB_REPOSITORY. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request

ANSWER_SECONDS = 20


def main() -> None:
    """Ask GitHub for the environment's rules."""
    name = sys.argv[1]
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    url = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}/environments/{name}"
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
    }
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - GitHub's own address
    rules: list[dict[str, object]] = []
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            rules = json.load(answer).get("protection_rules") or []
    except urllib.error.HTTPError as error:
        if error.code != 404:  # noqa: PLR2004 - not found: the environment isn't there
            sys.exit(f"error: {url}: {error}")
    if not any(rule.get("type") == "required_reviewers" for rule in rules):
        sys.exit(
            f"error: the environment {name} has no required reviewers, so nothing would wait.\n"
            "hint: add them in the repository's settings, under Environments"
        )
    sys.stdout.write(f"{name} waits for an approval\n")


if __name__ == "__main__":
    main()
