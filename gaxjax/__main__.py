"""`python -m gaxjax`: the command line."""

from gaxjax.startup import entry

entry()
