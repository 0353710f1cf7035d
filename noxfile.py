"""Every check of D3, each in an environment of its own: `nox`, or `nox -s NAME`."""

from __future__ import annotations

import nox

nox.needs_version = ">=2026"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "imports", "unit", "e2e"]

PROJECT = nox.project.load_toml()


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    install(session, "types", "test")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """The rooms of the house and who may enter which."""
    install(session, "imports")
    session.run("lint-imports")


@nox.session
def unit(session: nox.Session) -> None:
    """Units, and the contract of each port against each adapter."""
    run_tests(session, "tests/unit", "tests/contract")


@nox.session
def e2e(session: nox.Session) -> None:
    """The faces, used as people use them."""
    run_tests(session, "tests/e2e", "tests/gpu")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The figures of benchmarks/, printed; nothing is asserted."""
    install(session)
    session.run("python", "benchmarks/engine.py", *session.posargs)


def run_tests(session: nox.Session, *folders: str) -> None:
    """Run pytest on the installed package; arguments after -- go to pytest."""
    install(session, "test", "imports")
    session.run("pytest", "--numprocesses=2", "--dist=loadgroup", *(session.posargs or folders))


def install(session: nox.Session, *groups: str) -> None:
    """Install D3 as users get it, a wheel, and dependency groups."""
    session.install(".", *nox.project.dependency_groups(PROJECT, *groups))
    # Without byte code every process that a test starts would compile torch anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
