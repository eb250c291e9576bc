"""Measurements; each is a module that appends JSON rows to benchmarks/results/."""
