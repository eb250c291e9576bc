"""Figures and pages drawn from stored runs, never recomputing."""

from gaxjax.report.examples import draw_examples

__all__ = ["draw_examples"]
