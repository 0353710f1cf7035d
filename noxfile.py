"""Every check of D3, each in an environment of its own: `nox`, or `nox -s NAME`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2026"
nox.options.default_venv_backend = "uv"
nox.options.sessions = [
    *("lint", "types", "imports"),
    *("unit", "integration", "e2e", "service", "attacks", "console", "ray"),
]

PROJECT = nox.project.load_toml()
LOCK = "requirements.lock"
ACCEPTED_ADVISORIES: dict[str, str] = {}
"""Advisories that do not concern D3, by their id, each with the reason."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("--constraint", LOCK, *nox.project.dependency_groups(PROJECT, "lint"))
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
    find_program(session, "pgbouncer")
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


@nox.session
def attacks(session: nox.Session) -> None:
    """Hostile input and faults, in their short forms: on SQLite, on PostgreSQL and S3."""
    run_tests(session, "tests/hostile", "tests/faults")
    session.env["D3_TEST_BACKEND"] = "servers"
    pytest(session, "tests/hostile", "tests/faults/test_kill_9.py")


@nox.session(default=False)
def attacks_long(session: nox.Session) -> None:
    """The long forms: 50 times kill -9, servers away for 30 s, three more seeds of attacks."""
    session.env.update({"D3TEST_KILLS": "50", "D3TEST_OUTAGE_SECONDS": "30"})
    run_tests(session, "tests/faults")
    for seed in ("1", "2", "3"):
        session.env["D3TEST_HOSTILE_SEED"] = seed
        for backend in ("embedded", "servers"):
            session.env["D3_TEST_BACKEND"] = backend
            pytest(session, "tests/hostile", "tests/faults/test_kill_9.py")


@nox.session
def console(session: nox.Session) -> None:
    """The console in Chromium: on SQLite and a folder, on PostgreSQL and S3."""
    find_chromium(session)
    run_tests(session, "tests/console")
    session.env["D3_TEST_BACKEND"] = "servers"
    pytest(session, "tests/console", "--ignore=tests/console/test_manners.py")


@nox.session
def ray(session: nox.Session) -> None:
    """Scans on a Ray cluster of two nodes, PostgreSQL and S3: each killed or away in turn."""
    install(session, "test", "ray")
    pytest(session, "tests/cluster")


@nox.session(default=False)
def published(session: nox.Session) -> None:
    """The published detector's way at full size: traced, pulled, used, bundled, taken in."""
    install(session, "test")
    session.run("pytest", "--capture=no", "tests/full_size", *session.posargs)


@nox.session(default=False)
def ray_long(session: nox.Session) -> None:
    """The long form: 20 random kills of workers, nodes and drivers, PostgreSQL away for 30 s."""
    session.env.update({"D3TEST_RAY_KILLS": "20", "D3TEST_RAY_IMAGES": "4000"})
    session.env["D3TEST_OUTAGE_SECONDS"] = "30"
    install(session, "test", "ray")
    pytest(session, "tests/cluster")


@nox.session(default=False)
def real(session: nox.Session) -> None:
    """Real photographs and CLIP's ViT-B/16: fetched, or in the folder that D3TEST_REAL names."""
    install(session, "test", "real")
    folder = os.environ.get("D3TEST_REAL")
    if folder is None:
        folder = str(session.cache_dir / "real")
        fetched = ("photos", "generated", "clip")
        session.run("python", "-m", "tests.real.fetch", folder, *fetched)
    session.env["D3TEST_REAL"] = folder
    session.run("pytest", *(session.posargs or ["tests/real"]))


@nox.session(default=False)
def screenshots(session: nox.Session) -> None:
    """Pictures of every page of the console, light, dark and on a phone, in screenshots/."""
    find_chromium(session)
    install(session, "test")
    session.run("python", "-m", "tests.console.screenshots", *(session.posargs or ["screenshots"]))


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
def lock(session: nox.Session) -> None:
    """Write requirements.lock anew: every package that the tests install, by hash."""
    session.install("uv")
    options = ["--universal", "--python-version=3.11", "--generate-hashes", "--all-extras"]
    options += ["--no-emit-index-url", "--no-emit-find-links", "--group=dev", "--upgrade"]
    options += ["--custom-compile-command=nox -s lock", f"--output-file={LOCK}"]
    session.run("uv", "pip", "compile", "--quiet", *options, "pyproject.toml")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Ask PyPI for advisories on everything in the lock; needs PyPI's own API, not a mirror."""
    session.install("pip-audit")
    ignored = [f"--ignore-vuln={one}" for one in ACCEPTED_ADVISORIES]
    session.run("pip-audit", "--require-hashes", "--disable-pip", "--strict", f"-r{LOCK}", *ignored)


@nox.session(default=False)
def sbom(session: nox.Session) -> None:
    """Write sbom.json (CycloneDX): what an installation of D3 consists of."""
    install(session)
    python = f"{session.virtualenv.location}/bin/python"
    tool = ["uvx", "--from", "cyclonedx-bom", "cyclonedx-py", "environment", python]
    options = ["--pyproject=pyproject.toml", "--output-reproducible", "--output-file=sbom.json"]
    session.run(*tool, *options, external=True)


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
    install(session, "bench", "test", "ray")
    for part in ("prepare", "speed", "tricks", "views", "drift", "memory", "picture"):
        session.run("python", "benchmarks/engine.py", part)
    session.run("python", "benchmarks/start.py")
    session.run("python", "benchmarks/storage")
    session.run("python", "benchmarks/http/run.py")
    session.run("python", "benchmarks/evaluate.py", "busy")
    session.run("python", "benchmarks/evaluate.py", "memory")
    session.run("python", "benchmarks/preprocess.py")
    session.run("python", "benchmarks/train.py")
    session.run("python", "benchmarks/isolation.py")
    for part in ("load", "hostile", "slow"):
        session.run("python", "benchmarks/serving/pressure.py", part)
    for part in ("folder", "s3", "vit", "listing", "rows"):
        session.run("python", "benchmarks/scan.py", part)
    session.run("python", "benchmarks/scan_ray.py")
    for part in ("idle", "tails", "flood", "vit"):
        session.run("python", "benchmarks/serving/compare.py", part)


def find_chromium(session: nox.Session) -> None:
    """Debian's browser, installed where it is missing; D3_TEST_BROWSER names another one."""
    if not os.environ.get("D3_TEST_BROWSER"):
        find_program(session, "chromium")


def find_program(session: nox.Session, name: str) -> None:
    """A program of Debian's package of the same name, installed where it is missing."""
    if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return
    if shutil.which("apt-get") is None:
        session.error(f"install {name}: there is no apt-get to do it here")
    session.run("apt-get", "update", "--quiet", external=True)
    session.run(
        *("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", name),
        external=True,
    )


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
    # Each file is the one whose hash stands in the lock, or nothing is installed.
    needs = nox.project.dependency_groups(PROJECT, *groups)
    session.install("--constraint", LOCK, ".", *needs)
    # Without byte code every process that a test starts would compile torch anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
