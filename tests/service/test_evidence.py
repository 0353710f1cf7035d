"""Evidence through a real socket: bundles of stored results, and the key they are checked with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from d3.adapters.evidence import EvidenceBundles, SigningKeyFile
from d3.client import Client, ServiceError
from d3.domain.evidence import OpenedEvidence
from d3.domain.labels import Label
from d3.domain.provenance import Says
from d3.entrypoints.http.api.evidence import ZIP
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.service.test_access import a_key, bearer, predict
from tests.serving import assert_problem

KEY = "/api/evidence/key"


def evidence_of(number: int) -> str:
    return f"/api/inference/result/{number}/evidence"


@pytest.fixture
def keys(home: Home) -> SigningKeyFile:
    """The service's signing key."""
    keys = SigningKeyFile(home.settings().signing_key_file)
    keys.make()
    return keys


def opened(content: bytes, folder: Path) -> OpenedEvidence:
    file, published = folder / "case.zip", folder / "published.pem"
    file.write_bytes(content)
    trusted = published if published.exists() else None
    return EvidenceBundles(SigningKeyFile(folder / "none")).open(file, trusted)


@pytest.mark.on_servers
def test_a_stored_result_becomes_a_bundle_that_holds_all_that_is_known_of_it(
    service: Service, keys: SigningKeyFile, tmp_path: Path
) -> None:
    image = painted(200)
    made = service.predict(image, views=3, threshold=0.25).json()
    number = made["inference_id"]
    service.http.post(
        f"/api/inference/result/{number}/label", json={"label": "real", "source": "photographer"}
    ).raise_for_status()
    (tmp_path / "published.pem").write_text(service.http.get(KEY).json()["public_key"])
    answer = service.http.get(evidence_of(number))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == ZIP
    assert f"d3-result-{number}.zip" in answer.headers["Content-Disposition"]
    assert len(answer.content) < 500_000
    found = opened(answer.content, tmp_path)
    assert found.key_id == keys.key().public.key_id == service.http.get(KEY).json()["key_id"]
    case, result = found.case, made["result"]
    assert case.result_id == number
    assert case.result.prediction == result["prediction"]
    assert list(case.result.logits) == result["logits"]
    assert case.result.image_sha256 == hashlib.sha256(image).hexdigest()
    assert case.result.provenance_says is Says.NOTHING
    assert case.manifest is not None
    assert case.manifest.sha256 == result["model"]["sha256"]
    assert (case.result.device, case.result.libraries) == (result["device"], result["libraries"])
    assert [(one.label, one.source) for one in case.labels] == [(Label.REAL, "photographer")]
    assert found.image is None


@pytest.mark.on_servers
def test_only_who_may_see_a_result_gets_its_evidence(
    start: Callable[..., Service], keys: SigningKeyFile, tmp_path: Path
) -> None:
    assert keys.path.exists()
    closed = start(auth="required")
    ada, bob = a_key(closed, "ada"), a_key(closed, "bob")
    boss = a_key(closed, "boss", "admin")
    number = predict(closed, ada, 7)["inference_id"]
    assert_problem(closed.http.get(evidence_of(number)), 401)
    assert_problem(closed.http.get(evidence_of(number), headers=bearer(bob)), 404)
    writer = a_key(closed, "writer", "predict")
    assert_problem(closed.http.get(evidence_of(number), headers=bearer(writer)), 403)
    own = opened(closed.http.get(evidence_of(number), headers=bearer(ada)).content, tmp_path).case
    assert (own.asked_by, own.made_by) == ("ada", "ada")
    theirs = opened(
        closed.http.get(evidence_of(number), headers=bearer(boss)).content, tmp_path
    ).case
    assert (theirs.asked_by, theirs.made_by) == ("ada", "boss")
    assert closed.http.get(KEY).status_code == 200  # nobody needs a key for a public key


def test_without_a_signing_key_there_is_no_bundle(service: Service) -> None:
    number = service.predict(painted(3)).json()["inference_id"]
    for path in (evidence_of(number), KEY):
        problem = assert_problem(service.http.get(path), 409, "signing_key_missing")
        assert "d3 keys sign-init" in problem["error"]


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999999999999999999", "12345"])
def test_a_result_that_is_not_there_has_no_evidence(
    service: Service, keys: SigningKeyFile, number: str
) -> None:
    assert keys.path.exists()
    answer = service.http.get(f"/api/inference/result/{number}/evidence")
    assert_problem(answer, 404, "result_not_found")


def test_the_evidence_outlives_its_model(
    service: Service, keys: SigningKeyFile, tmp_path: Path, home: Home
) -> None:
    assert keys.path.exists()
    number = service.predict(painted(3)).json()["inference_id"]
    registry = service.application.d3.registry
    registry.activate("starter")
    registry.delete("mine")
    found = opened(service.http.get(evidence_of(number)).content, tmp_path)
    assert found.case.manifest is None
    assert b"no longer in the registry" in found.members["report.html"]


def test_the_client_brings_a_bundle(service: Service, keys: SigningKeyFile, tmp_path: Path) -> None:
    with Client(service.url) as client:
        number = client.predict(painted(3)).inference_id
        assert opened(client.evidence(number), tmp_path).case.result_id == number
        keys.path.unlink()
        with pytest.raises(ServiceError) as refused:
            client.evidence(number)
        assert refused.value.code == "signing_key_missing"


@pytest.mark.on_servers
def test_replicas_sign_with_the_key_that_the_setting_names(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    shared = SigningKeyFile(tmp_path / "secret" / "key.pem")
    shared.make()
    service = start(signing_key=shared.path)
    assert service.http.get(KEY).json()["key_id"] == shared.key().public.key_id
