"""What a release runs in the new image: check, migrate, collect."""

import os
import sys
from pathlib import Path

match sys.argv[1]:
    case "check":
        if os.environ.get("FAIL_CHECK"):
            sys.exit("settings: FAIL_CHECK is set, which no settings may have")
        print("check passed")
    case "migrate":
        if os.environ.get("FAIL_MIGRATE"):
            sys.exit("migrate: relation does not exist")
        if os.environ.get("ROLE") != "migrate":
            sys.exit("migrate: wrong environment")
        Path("/app/media/migrated.txt").write_text("done\n", encoding="utf-8")
    case "collect":
        Path("/app/static/site.css").write_text("body { color: teal }\n", encoding="utf-8")
