"""Run the program: ``bedstone`` as a zipapp, ``python3 -m bedstone`` from a checkout."""

import sys

from bedstone.cli.main import main

sys.exit(main())
