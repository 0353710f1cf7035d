"""Every check of D3, each in an environment of its own: `nox`, or `nox -s NAME`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2026"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "imports", "unit", "integration", "e2e", "service"]

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
def integration(session: nox.Session) -> None:
    """Adapters against what they adapt to: files, databases, the network's weights."""
    run_tests(session, "tests/integration")


@nox.session
def e2e(session: nox.Session) -> None:
    """The faces, used as people use them."""
    run_tests(session, "tests/e2e", "tests/gpu")


@nox.session
def service(session: nox.Session) -> None:
    """The REST service through real sockets: on SQLite and a folder, on PostgreSQL and S3."""
    run_tests(session, "tests/service")
    session.env["D3_TEST_BACKEND"] = "servers"
    # Left out are those that bring servers of their own, and one that asks for none.
    own = ("outages", "prototype_environment", "memory")
    left_out = [f"--ignore=tests/service/test_{name}.py" for name in own]
    pytest(session, "tests/service", *left_out)


@nox.session(default=False)
def crash(session: nox.Session) -> None:
    """The long forms: kill -9 in the middle of 200 predictions, a database away for 30 s."""
    session.env["D3TEST_PREDICTIONS"] = "200"
    session.env["D3TEST_OUTAGE_SECONDS"] = "30"
    run_tests(session, "tests/service/test_durability.py", "tests/service/test_outages.py")


@nox.session(default=False)
def million(session: nox.Session) -> None:
    """The long form of the history's plans: every question on a million rows."""
    session.env["D3TEST_ROWS"] = "1000000"
    run_tests(session, "tests/integration/test_history_plans.py")


@nox.session(default=False)
def scans(session: nox.Session) -> None:
    """The long form of bulk scans: 2,000 rendered images through 20 kills."""
    session.env["D3TEST_SCAN_IMAGES"] = "2000"
    session.env["D3TEST_SCAN_KILLS"] = "20"
    run_tests(session, "tests/e2e/test_scan.py")


@nox.session(default=False)
def openapi(session: nox.Session) -> None:
    """Write docs/openapi.json anew."""
    install(session)
    with Path("docs/openapi.json").open("w", encoding="utf-8") as stream:
        session.run("python", "-m", "d3.entrypoints.http", stdout=stream)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The figures of benchmarks/, printed; nothing is asserted. The HTTP one needs wrk."""
    install(session, "bench", "test")
    for part in ("prepare", "speed", "tricks", "views", "drift", "memory", "picture"):
        session.run("python", "benchmarks/engine.py", part)
    session.run("python", "benchmarks/storage")
    session.run("python", "benchmarks/http/run.py")
    session.run("python", "benchmarks/evaluate.py", "busy")
    session.run("python", "benchmarks/evaluate.py", "memory")
    session.run("python", "benchmarks/preprocess.py")
    for part in ("folder", "s3", "vit", "listing"):
        session.run("python", "benchmarks/scan.py", part)
    for part in ("idle", "tails", "flood", "vit"):
        session.run("python", "benchmarks/serving/compare.py", part)


def run_tests(session: nox.Session, *folders: str) -> None:
    """Run pytest on the installed package."""
    install(session, "test", "imports")
    pytest(session, *folders)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest; arguments after -- take the place of these."""
    # Two processes test side by side: threads of torch's own would only get in each other's way.
    session.env["OMP_NUM_THREADS"] = "1"
    session.run("pytest", "--numprocesses=2", "--dist=loadgroup", *(session.posargs or arguments))


def install(session: nox.Session, *groups: str) -> None:
    """Install D3 as users get it, a wheel, and dependency groups."""
    session.install(".", *nox.project.dependency_groups(PROJECT, *groups))
    # Without byte code every process that a test starts would compile torch anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
