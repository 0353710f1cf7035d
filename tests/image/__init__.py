"""The image, built and used: ``nox -s image``, which needs a Docker daemon and fails without one.

The other sessions do not look in here: ``tests/unit/test_compose.py`` only reads the Dockerfile.
"""
