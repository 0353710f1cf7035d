"""Checks on real photographs, real generators' images and a real CLIP encoder: ``nox -s real``.

Nothing of the data is in this repository: ``tests.real.fetch`` gets it out of packages. The other
sessions do not look in here, and in here nothing is skipped: what is missing is a failure.
"""
