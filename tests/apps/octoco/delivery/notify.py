"""Send a message when a job of this run failed or was cancelled.

NEEDS is the `needs` of the job as JSON, NOTIFY_URL a webhook that takes {"text": ...}, as Slack
and Mattermost do. Releases and their failures are reported by the server's own hooks. Standard
library only.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request

ANSWER_SECONDS = 20


def text(results: dict[str, str]) -> str:
    """Return the message: which jobs failed, and where the run is."""
    bad = [f"{job}: {how}" for job, how in results.items() if how in {"failure", "cancelled"}]
    if not bad:
        return ""
    repository, run = os.environ["GITHUB_REPOSITORY"], os.environ["GITHUB_RUN_ID"]
    what = f"Delivery of {repository} {os.environ['GITHUB_SHA'][:8]} failed ({', '.join(bad)})"
    return f"{what}: {os.environ['GITHUB_SERVER_URL']}/{repository}/actions/runs/{run}"


def main() -> None:
    """Send it."""
    # Without an address a failure would be told to no user: that is found by the first delivery.
    url = os.environ.get("NOTIFY_URL") or sys.exit("error: the secret NOTIFY_URL isn't set")
    needs = json.loads(os.environ["NEEDS"])
    message = text({job: str(about["result"]) for job, about in needs.items()})
    if not message:
        sys.stdout.write("nothing failed, no message\n")
        return
    body = json.dumps({"text": message}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - the team's own
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310
            sys.stdout.write(f"sent: {message}\n")
    except (OSError, ValueError) as error:
        # Not the address: it is a secret.
        reason = error.code if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        sys.exit(f"error: the webhook refused the message: {reason}")


if __name__ == "__main__":
    main()
