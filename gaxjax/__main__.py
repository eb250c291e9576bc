"""`python -m gaxjax`: the command line."""

from gaxjax.cli.main import entry

entry()
