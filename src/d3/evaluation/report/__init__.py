"""The report: one HTML file that needs nothing else, in light and dark."""

from d3.evaluation.report.page import render

__all__ = ["render"]
