"""Suites, and the processes that turn their measurements into rows."""
