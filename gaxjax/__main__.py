"""`python -m gaxjax`: the command line."""

import sys

from gaxjax.cli import main

sys.exit(main())
