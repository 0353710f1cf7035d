"""compose.yaml, the Dockerfile and the settings speak of the same things."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from d3.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SERVICES: dict[str, Any] = COMPOSE["services"]
SECRETS = {"POSTGRES_PASSWORD": "one secret", "MINIO_SECRET_KEY": "another secret"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's lines as (instruction, rest), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(name, rest) for name, rest in lines]


def last_stage() -> list[tuple[str, str]]:
    every = instructions()
    begin = max(n for n, (name, _) in enumerate(every) if name == "FROM")
    return every[begin:]


def image_environment() -> dict[str, str]:
    (line,) = (rest for name, rest in last_stage() if name == "ENV")
    return dict(word.split("=", maxsplit=1) for word in shlex.split(line))


def environment(service: str) -> dict[str, str]:
    """A service's variables with the secrets put in, as compose does."""

    def secret(match: re.Match[str]) -> str:
        return SECRETS[match[1]]

    given = SERVICES[service]["environment"]
    return {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", secret, str(value)) for name, value in given.items()
    }


def settings() -> Settings:
    """What D3 reads in its container."""
    return Settings.from_environment(image_environment() | environment("d3"), dotenv=None)


def test_every_variable_is_a_setting_and_can_be_used() -> None:
    known = {one.metadata["variable"] for one in Settings.__dataclass_fields__.values()}
    assert set(environment("d3")) <= known
    assert {name for name in image_environment() if name.startswith("D3_")} <= known
    assert settings().host == "0.0.0.0"


def test_d3_is_led_to_the_services_that_are_there() -> None:
    read = settings()
    hosts = {
        read.postgres_host,
        str(read.minio_endpoint).split(":")[0],
        re.split(r"[/:]+", str(read.redis_url))[1],
    }
    assert hosts == set(SERVICES) - {"d3", "replica", "proxy"} == set(SERVICES["d3"]["depends_on"])


def test_replicas_are_d3_behind_a_proxy_that_they_trust_and_only_where_asked_for() -> None:
    replica, proxy, alone = SERVICES["replica"], SERVICES["proxy"], SERVICES["d3"]
    assert replica["profiles"] == proxy["profiles"] == ["scale"]
    assert {one for one in SERVICES if "profiles" in SERVICES[one]} == {"replica", "proxy"}
    assert replica["deploy"]["replicas"] == 2
    assert "ports" not in replica
    own = environment("replica")
    trusted = own.pop("D3_TRUSTED_PROXIES")
    assert own == environment("d3") | {"D3_WORKERS": "1"}
    read = Settings.from_environment(
        image_environment() | environment("replica"), dotenv=None
    ).trusted_proxies
    assert ",".join(read) == trusted
    same = set(alone) - {"ports", "environment"}
    assert {name: replica[name] for name in same} == {name: alone[name] for name in same}
    (published,) = proxy["ports"]
    assert published == alone["ports"][0]
    assert set(proxy["depends_on"]) == {"replica"}
    reported = COMPOSE["configs"][proxy["configs"][0]["source"]]["content"]
    assert re.search(r"^:5000 \{$", reported, re.MULTILINE)
    assert re.search(r"name replica\s+port 5000\b", reported)


def test_workers_are_used_where_the_home_is_no_other_services() -> None:
    assert settings().workers == "auto"
    volumes = [SERVICES[name]["volumes"] for name in ("d3", "replica")]
    assert volumes[0] == volumes[1]  # so of several replicas none may have workers
    assert environment("replica")["D3_WORKERS"] == "1"


def test_an_upload_may_be_sent_on_to_another_replica() -> None:
    """Caddy's retries lose the body before 2.11.2."""
    found = re.match(r"caddy:(\d+)\.(\d+)", SERVICES["proxy"]["image"])
    assert found is not None
    assert tuple(map(int, found.groups())) >= (2, 11)


def test_postgres_is_asked_where_d3_will_ask() -> None:
    """While its image makes the database, a server answers on the socket alone."""
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert check[check.index("--host") + 1] == "127.0.0.1"
    read = settings()
    assert check[check.index("--username") + 1] == read.postgres_user
    assert check[check.index("--dbname") + 1] == read.postgres_db


def test_both_ends_know_the_same_secrets() -> None:
    read, postgres, s3 = settings(), environment("postgres"), environment("s3")
    assert read.postgres_password == SECRETS["POSTGRES_PASSWORD"] == postgres["POSTGRES_PASSWORD"]
    assert (read.postgres_user, read.postgres_db) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_DB"],
    )
    assert read.minio_secret_key == SECRETS["MINIO_SECRET_KEY"] == s3["ROOT_SECRET_KEY"]
    assert read.minio_access_key == s3["ROOT_ACCESS_KEY"]
    assert str(read.minio_endpoint).split(":")[1] in " ".join(SERVICES["s3"]["command"])


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value)


def test_the_port_is_the_services_and_is_published_on_this_machine_alone() -> None:
    (exposed,) = (rest for name, rest in last_stage() if name == "EXPOSE")
    (published,) = SERVICES["d3"]["ports"]
    address, outside, inside = published.split(":")
    assert {outside, inside, exposed} == {str(settings().port)} == {str(Settings().port)}
    assert address == "127.0.0.1"
    assert all("ports" not in SERVICES[name] for name in SERVICES if name not in {"d3", "proxy"})


def test_the_health_check_asks_what_the_service_answers() -> None:
    (check,) = (rest for name, rest in last_stage() if name == "HEALTHCHECK")
    command = json.loads(check[check.index("CMD ") + 4 :])
    paths = set(re.findall(r"/health[a-z/]*", command[-1]))
    document = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
    assert paths == {"/health/ready"} <= set(document["paths"])
    assert "D3_PORT" in command[-1]
    compile(command[-1], "health check", "exec")
    assert "'https:') if os.environ.get('D3_TLS_CERT')" in command[-1]


def test_it_runs_as_nobody_in_particular_and_writes_where_a_volume_is() -> None:
    stage = last_stage()
    (user,) = (rest for name, rest in stage if name == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # by number: Kubernetes' runAsNonRoot needs it
    assert f"--uid {user.split(':')[0]} " in str(instructions())
    home = str(settings().home)
    assert [rest for name, rest in stage if name == "VOLUME"] == [home]
    (volume,) = SERVICES["d3"]["volumes"]
    assert volume.split(":")[1] == home
    named = {one.split(":")[0] for each in SERVICES.values() for one in each.get("volumes", ())}
    assert named == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"d3", "replica"}))
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:v?[0-9]+\.[0-9.]+(-alpine)?", SERVICES[name]["image"])


def test_the_images_labels_tell_of_its_version_source_and_licence() -> None:
    stage = last_stage()
    (labels,) = (shlex.split(rest) for name, rest in stage if name == "LABEL")
    given = {one.split("=")[0].rpartition(".")[2]: one.split("=")[1] for one in labels}
    assert given["licenses"] == PROJECT["license"]
    asked = {rest.split("=")[0] for name, rest in stage if name == "ARG"}
    for name in ("version", "revision", "created", "source", "torch"):
        assert given[name] == f"${{{name.upper()}}}"
        assert name.upper() in asked


def test_compose_builds_the_image_for_processors_unless_told_otherwise() -> None:
    build = SERVICES["d3"]["build"]
    assert build == {"context": ".", "args": {"TORCH": "${TORCH:-cpu}"}}
    defaults = dict(
        rest.split("=", 1) for name, rest in instructions() if name == "ARG" and "=" in rest
    )
    assert defaults["TORCH"] == "cpu"


def test_the_arguments_of_the_build_are_those_that_the_page_explains() -> None:
    page = (ROOT / "docs/howto/images.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ((?:`[A-Z_0-9]+`(?:, )?)+) \|", page, re.MULTILINE)
    known = {rest.split("=")[0] for name, rest in instructions() if name == "ARG"}
    assert set(re.findall(r"`(\w+)`", " ".join(listed))) == known


def test_no_address_key_or_password_of_a_registry_stands_in_the_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://([^/\s\"]+)", text)) == {
        "download.pytorch.org",
        "127.0.0.1:'",  # the health check
    }
    assert not re.search(r"ARG \w*(PASSWORD|TOKEN|SECRET|INDEX_URL)", text)


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_every_package_of_the_image_is_pinned_and_only_the_cuda_one_has_cuda(
    tmp_path: Path, torch: str
) -> None:
    made = wanted(tmp_path, torch, "openvino, video")
    names = {re.split(r"[ =\[;>]", line)[0] for line in made["needs"].splitlines()}
    assert {"torch", "numpy", "open_clip_torch", "openvino", "av"} <= names
    assert "pytest" not in names
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", made["lock"], re.MULTILINE))
    assert {one.lower().replace("_", "-") for one in names - {"torch"}} <= set(locked)
    assert len(re.findall("--hash=sha256:", made["lock"])) >= len(locked)
    assert ("nvidia-cublas" in locked) == (torch == "cuda")
    apart = re.findall(r"^((?:torch|torchvision)==[\d.]+) ", LOCK, re.MULTILINE)
    assert len(apart) == 2
    if torch == "cuda":
        assert made["torch"] == ""
        assert {"torch", "torchvision"} <= set(locked)
    else:  # they fit each other only if they are of one index
        assert made["torch"].split() == apart
        assert not {"torch", "torchvision"} & set(locked)
    assert made["uv"].startswith("uv==")


def test_another_torch_can_be_named_with_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_VERSION", "2.13.0 --hash=sha256:0a1b")
    monkeypatch.setenv("TORCHVISION_VERSION", "0.28.0")
    made = wanted(tmp_path, "cpu", "")
    assert made["torch"] == "torch==2.13.0 --hash=sha256:0a1b\ntorchvision==0.28.0\n"


@pytest.mark.parametrize(
    ("torch", "extras", "words"),
    [("rocm", "", "neither cpu nor cuda"), ("cpu", "vide", "no extra vide. It has .*video")],
)
def test_an_image_that_cannot_be_made_is_refused(
    tmp_path: Path, torch: str, extras: str, words: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        wanted(tmp_path, torch, extras)
    assert re.search(words, failed.value.stderr)
    assert not list(tmp_path.iterdir())


def wanted(folder: Path, *arguments: str) -> dict[str, str]:
    """What deploy/image/requirements.py writes, by the file's name."""
    command = [sys.executable, "deploy/image/requirements.py", *arguments, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {one.stem: one.read_text(encoding="utf-8") for one in folder.iterdir()}


def test_what_is_copied_into_the_image_is_let_through_and_nothing_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    }
    assert copied == let_through
    assert "*" in ignore
    assert all((ROOT / name).exists() for name in let_through)
