"""Fonts that stand in PDF reports; LICENCES.md says whose they are."""
