"""The manifests of deploy/kubernetes: valid, and about the same things as D3 and its settings."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from d3.entrypoints.cli.app import cli
from d3.entrypoints.serving.server import GRACE_SECONDS
from d3.settings import Settings
from tests.docs.checking import check_command
from tests.support.kustomize import render

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that the page names, and a current one."""
WHOLE = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../gpu]
components:
  - ../../components/models
  - ../../components/monitoring
  - ../../components/internet
  - ../../components/traces
"""
OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Objects of Prometheus Operator."""
SECRETS = {
    "POSTGRES_PASSWORD": "p:w",
    "MINIO_ACCESS_KEY": "access",
    "MINIO_SECRET_KEY": "secret",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
}
ALL = ("cpu", "gpu", "example", "volume")
VARIABLES = {one.metadata["variable"]: one for one in Settings.__dataclass_fields__.values()}
_rendered: dict[str, list[dict[str, Any]]] = {}


class Manifests:
    """The objects of one overlay.

    Args:
        objects: as kustomize renders them.
    """

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def one(self, kind: str, name: str = "d3") -> dict[str, Any]:
        """An object, whose name may end with a hash."""
        (found,) = (one for one in self.of(kind) if one == name or one.startswith(f"{name}-"))
        return self.of(kind)[found]

    @property
    def server(self) -> dict[str, Any]:
        """The Deployment that serves."""
        return self.of("Deployment")["d3"]

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """The templates of all pods, by what makes them."""
        makers = self.of("Deployment") | self.of("Job")
        return {name: one["spec"]["template"] for name, one in makers.items()}

    @property
    def environment(self) -> dict[str, str]:
        """What a pod of D3 gets from the ConfigMap and the Secret."""
        settings: dict[str, str] = self.one("ConfigMap", "d3-settings")["data"]
        return settings | self.secrets

    @property
    def secrets(self) -> dict[str, str]:
        """What is in the Secret; nothing where the overlay makes none."""
        found = self.of("Secret").values()
        return {
            name: base64.b64decode(value).decode()
            for one in found
            for name, value in one["data"].items()
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with filled-in secrets, and an overlay with everything that others leave out."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("secrets.env"))
    example = copy / "overlays/example"
    text = (example / "secrets.env.example").read_text(encoding="utf-8")
    for name, value in SECRETS.items():
        assert f"\n{name}=\n" in text
        text = text.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (example / "secrets.env").write_text(text, encoding="utf-8")
    (copy / "overlays/volume").mkdir()
    (copy / "overlays/volume/kustomization.yaml").write_text(WHOLE, encoding="utf-8")
    return copy


@pytest.fixture(params=ALL)
def overlay(request: pytest.FixtureRequest, folder: Path) -> Manifests:
    """Each overlay."""
    return manifests(folder, request.param)


def manifests(folder: Path, name: str) -> Manifests:
    """An overlay, rendered once."""
    if name not in _rendered:
        _rendered[name] = render(folder / "overlays" / name)
    return Manifests(_rendered[name])


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object_and_knows_every_field(
    overlay: Manifests, version: str
) -> None:
    import kubernetes_validate

    for one in overlay.objects:
        if one["kind"] not in OPERATORS:
            kubernetes_validate.validate(one, version, strict=True)


def test_a_field_that_does_not_exist_would_be_found(folder: Path) -> None:
    import kubernetes_validate

    server = json.loads(json.dumps(manifests(folder, "cpu").server))
    server["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessprobe"):
        kubernetes_validate.validate(server, VERSIONS[0], strict=True)


def test_every_file_is_used(folder: Path) -> None:
    """Nothing lies there that no kustomization names."""
    named = {"prometheus-adapter.yaml", "secrets.env", "secrets.env.example", "kustomization.yaml"}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in named:
            text = (path.parent / "kustomization.yaml").read_text(encoding="utf-8")
            assert path.name in text, path


def test_every_variable_is_a_setting_and_d3_can_use_them(overlay: Manifests) -> None:
    given = overlay.environment
    assert set(given) <= set(VARIABLES)
    read = Settings.from_environment(given, dotenv=None)
    container = overlay.server["spec"]["template"]["spec"]["containers"][0]
    (port,) = container["ports"]
    assert (read.host, read.port) == ("0.0.0.0", port["containerPort"])
    assert str(read.home) in {one["mountPath"] for one in container["volumeMounts"]}
    assert not read.uses_sqlite
    assert read.auth == "auto"


def test_secrets_are_in_the_secret_and_nothing_else_is(folder: Path) -> None:
    example = manifests(folder, "example")
    config = set(example.one("ConfigMap", "d3-settings")["data"])
    assert not {name for name in config if VARIABLES[name].metadata["secret"]}
    assert set(example.secrets) == {*SECRETS, "D3_REDIS_URL"}
    assert all(VARIABLES[name].metadata["secret"] for name in example.secrets)
    ignored = (FOLDER.parents[1] / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/deploy/kubernetes/overlays/*/secrets.env" in ignored


def test_every_pod_reads_the_settings_and_the_secrets_by_the_name_they_have(
    folder: Path,
) -> None:
    example = manifests(folder, "example")
    (config,), (secret,) = example.of("ConfigMap"), example.of("Secret")
    for pod in example.pods.values():
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [
            {"configMapRef": {"name": config}},
            {"secretRef": {"name": secret}},
        ]


def test_every_pod_runs_with_as_little_as_the_restricted_standard_asks(
    overlay: Manifests,
) -> None:
    assert set(overlay.pods) == {"d3", "d3-admin", "d3-migrate"}
    for pod in overlay.pods.values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        everyone = spec["securityContext"]
        assert everyone["runAsNonRoot"] is True
        assert everyone["runAsUser"] == everyone["fsGroup"] == 10001
        assert everyone["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["runAsNonRoot"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) >= {"cpu", "memory", "ephemeral-storage"}
        assert all({"emptyDir", "persistentVolumeClaim"} & set(one) for one in spec["volumes"])


def test_the_image_is_the_one_of_the_dockerfile_and_the_overlays(folder: Path) -> None:
    dockerfile = (FOLDER.parents[1] / "Dockerfile").read_text(encoding="utf-8")
    for name, image in {
        "cpu": "d3:cpu",
        "gpu": "d3:cuda",
        "example": "registry.example.net/d3:cpu",
    }.items():
        pods = manifests(folder, name).pods.values()
        assert {one["spec"]["containers"][0]["image"] for one in pods} == {image}
        assert {one["spec"]["securityContext"]["runAsUser"] for one in pods} == {10001}
    assert "--uid 10001" in dockerfile


def test_probes_ask_what_the_service_answers_and_give_it_time(overlay: Manifests) -> None:
    container = overlay.server["spec"]["template"]["spec"]["containers"][0]
    document = json.loads((FOLDER.parents[1] / "docs/openapi.json").read_text(encoding="utf-8"))
    for name, path in {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }.items():
        asked = container[name]["httpGet"]
        assert asked == {"path": path, "port": container["ports"][0]["name"]}
        assert path in document["paths"]
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 600


def test_a_pod_has_time_to_answer_what_it_began(overlay: Manifests) -> None:
    spec = overlay.server["spec"]["template"]["spec"]
    before = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert before[0] == "sleep"
    assert spec["terminationGracePeriodSeconds"] >= int(before[1]) + GRACE_SECONDS + 10


def test_selectors_find_the_pods_they_are_about(overlay: Manifests) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in overlay.pods.items()}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    for name, one in overlay.of("Deployment").items():
        assert found(one["spec"]["selector"]["matchLabels"]) == {name}
    assert found(overlay.one("Service")["spec"]["selector"]) == {"d3"}
    assert found(overlay.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]) == {"d3"}
    for one in overlay.server["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert found(one["labelSelector"]["matchLabels"]) == {"d3"}
    policies = overlay.of("NetworkPolicy")
    assert found(policies["d3"]["spec"]["podSelector"]["matchLabels"]) == set(labels)
    assert found(policies["d3-server"]["spec"]["podSelector"]["matchLabels"]) == {"d3"}
    for monitor in overlay.of("ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= overlay.one("Service")["metadata"]["labels"].items()


def test_ports_lead_to_the_container(overlay: Manifests) -> None:
    (port,) = overlay.server["spec"]["template"]["spec"]["containers"][0]["ports"]
    (service,) = overlay.one("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    (rule,) = overlay.of("NetworkPolicy")["d3-server"]["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["name"]]
    for one in overlay.of("Ingress").values():
        backend = one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": "d3", "port": {"name": service["name"]}}
    for one in overlay.of("ServiceMonitor").values():
        (endpoint,) = one["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["path"]) == (service["name"], "/metrics")


def test_nothing_is_let_in_or_out_but_what_a_rule_names(folder: Path) -> None:
    closed = manifests(folder, "cpu").of("NetworkPolicy")
    assert set(closed) == {"d3", "d3-server"}
    assert closed["d3"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert closed["d3"]["spec"]["ingress"] == []
    read = Settings.from_environment(manifests(folder, "cpu").environment, dotenv=None)
    allowed = {port["port"] for rule in closed["d3"]["spec"]["egress"] for port in rule["ports"]}
    assert allowed == {53, read.postgres_port, int(str(read.minio_endpoint).split(":")[1]), 6379}
    example = manifests(folder, "example").of("NetworkPolicy")
    assert [
        block["ipBlock"]["cidr"]
        for rule in example["d3"]["spec"]["egress"][1:]
        for block in rule["to"]
    ] == ["10.20.30.0/24"]
    (rule,) = example["d3-internet"]["spec"]["egress"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]  # a cloud's credentials


def test_an_overlay_has_the_last_word_about_its_settings(folder: Path) -> None:
    """A component that sets a setting would silently win over the overlay that uses it."""
    example = folder / "overlays/example"
    mine = folder / "overlays/mine"
    shutil.copytree(example, mine)
    text = (mine / "settings.env").read_text(encoding="utf-8")
    assert text.count("D3_TRUSTED_PROXIES=10.0.0.0/8\n") == 1
    given = text.replace("=10.0.0.0/8", "=192.0.2.0/24")
    (mine / "settings.env").write_text(given, encoding="utf-8")
    found = manifests(folder, "mine").environment
    assert {line for line in given.splitlines() if line[0] != "#"} <= {
        f"{name}={value}" for name, value in found.items()
    }


def test_the_example_names_the_host_and_who_may_call(folder: Path) -> None:
    example = manifests(folder, "example")
    spec = example.one("Ingress")["spec"]
    assert spec["tls"] == [{"hosts": [spec["rules"][0]["host"]], "secretName": "d3-tls"}]
    assert spec["ingressClassName"]
    (rule,) = example.of("NetworkPolicy")["d3-server"]["spec"]["ingress"]
    names = [next(iter(one["namespaceSelector"]["matchLabels"].values())) for one in rule["from"]]
    assert names == ["ingress-nginx", "monitoring"]


def test_the_rules_of_the_operator_are_those_of_prometheus(folder: Path) -> None:
    (found,) = manifests(folder, "volume").of("PrometheusRule").values()
    prometheus = FOLDER.parent / "observability/prometheus"
    rules = yaml.safe_load((prometheus / "rules.yml").read_text(encoding="utf-8"))
    assert found["spec"] == rules, "run deploy/observability/prometheus/prometheusrule.py"


def test_traces_reach_the_collector_and_nothing_else(folder: Path) -> None:
    (rule,) = manifests(folder, "volume").of("NetworkPolicy")["d3-traces"]["spec"]["egress"]
    assert [one["port"] for one in rule["ports"]] == [4318]


def test_the_autoscaler_moves_the_server_by_what_the_adapter_makes(overlay: Manifests) -> None:
    server, scaler = overlay.server, overlay.one("HorizontalPodAutoscaler")["spec"]
    target = scaler["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d3"}
    assert "replicas" not in server["spec"]  # else each `apply` would undo its work
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    values = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_a_disruption_never_takes_all_pods(overlay: Manifests) -> None:
    least = overlay.one("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert overlay.one("PodDisruptionBudget")["spec"]["maxUnavailable"] < least
    rolling = overlay.server["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] < least
    assert rolling["maxUnavailable"] + rolling["maxSurge"] == 1


def test_each_command_is_one_of_d3_or_waits(overlay: Manifests) -> None:
    for name, pod in overlay.pods.items():
        (container,) = pod["spec"]["containers"]
        if name == "d3-admin":
            assert container["command"] == ["sleep", "infinity"]
            continue
        assert container["command"] == ["d3"]
        found: Any = cli
        for word in container["args"]:
            found = found.get_command(None, word)
            assert found is not None, container["args"]


def test_models_on_a_volume_are_read_by_servers_and_written_by_commands(folder: Path) -> None:
    volume = manifests(folder, "volume")
    read = Settings.from_environment(volume.environment, dotenv=None)
    assert read.minio_endpoint is None
    (claim,) = volume.of("PersistentVolumeClaim")
    for name, read_only in {"d3": True, "d3-admin": None}.items():
        spec = volume.pods[name]["spec"]
        mounts = {one["name"]: one for one in spec["containers"][0]["volumeMounts"]}
        assert mounts["models"]["mountPath"] == str(read.home / "models")
        assert mounts["models"].get("readOnly") is read_only
        claims = {one["name"]: one.get("persistentVolumeClaim") for one in spec["volumes"]}
        assert claims["models"] == {"claimName": claim}


def test_the_page_names_what_the_manifests_have(folder: Path) -> None:
    page = (FOLDER.parents[1] / "docs/howto/kubernetes.md").read_text(encoding="utf-8")
    example = manifests(folder, "example")
    named = {
        "Deployment": re.findall(r"deployment[ /](d3[\w-]*)", page),
        "Job": re.findall(r"job[ /](d3[\w-]*)", page),
        "Service": re.findall(r"service/(d3[\w-]*)", page),
    }
    for kind, names in named.items():
        assert set(names) == set(example.of(kind))
    for line in re.findall(r"-- (d3 [a-z][^\n)\"`]*)", page):
        check_command(line)
    (monitor,) = manifests(folder, "volume").of("ServiceMonitor").values()
    key = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert f"secret generic {key['name']} " in page
    assert f"--from-literal={key['key']}=" in page
    needed = {
        one["metadata"]["labels"].get("app.kubernetes.io/component")
        for one in (example.one("ConfigMap", "d3-settings"), example.one("Secret", "d3-secrets"))
    }
    assert needed == {"settings"}
    assert "component in (settings, migrate)" in page
