"""Checks of the distributions in D3TEST_DIST: ``nox -s release`` builds them and runs these.

They install D3 anew many times, so the other sessions do not look in here.
"""
