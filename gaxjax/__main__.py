"""`python -m gaxjax`: the command line."""

from gaxjax.cli.startup import entry

entry()
