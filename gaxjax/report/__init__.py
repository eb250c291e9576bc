"""Figures and pages drawn from stored runs, never recomputing."""
