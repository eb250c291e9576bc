"""`python -m gaxjax`: the command line."""

from gaxjax.cli import entry

entry()
