"""Let `python -m askonce.cli` be the command line."""

import sys

from askonce.cli import main

sys.exit(main())
