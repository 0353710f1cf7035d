"""What the repository says about itself: one version everywhere, and forms that a host can show."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import d3

ROOT = Path(__file__).resolve().parents[2]
FORMS = ROOT / ".github/ISSUE_TEMPLATE"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_version_is_pyprojects_everywhere() -> None:
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    client = json.loads((ROOT / "clients/typescript/package.json").read_text())
    lock = json.loads((ROOT / "clients/typescript/package-lock.json").read_text())
    said = {
        "this installation (install D3 again if it is older)": d3.__version__,
        "docs/openapi.json": document["info"]["version"],
        "CITATION.cff": yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"],
        "package.json": client["version"],
        "package-lock.json": lock["version"],
        "package-lock.json's package": lock["packages"][""]["version"],
    }
    assert said == dict.fromkeys(said, VERSION)


def test_the_changelog_begins_with_this_version_or_what_is_not_released() -> None:
    heading = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == "Unreleased" or re.fullmatch(
        rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", heading[1]
    )


@pytest.mark.parametrize("form", ["bug.yml", "wrong-verdict.yml", "feature.yml"])
def test_the_forms_are_those_that_a_host_shows(form: str) -> None:
    content: dict[str, Any] = yaml.safe_load((FORMS / form).read_text())
    assert set(content) == {"name", "description", "labels", "body"}
    fields = [one for one in content["body"] if one["type"] != "markdown"]
    named = [one["id"] for one in fields]
    assert len(set(named)) == len(named) > 2
    assert all(re.fullmatch(r"[a-z]+", one) for one in named)
    known = {"input", "textarea", "dropdown", "checkboxes", "markdown"}
    for one in content["body"]:
        assert set(one) <= {"type", "id", "attributes", "validations"}
        assert one["type"] in known
        assert set(one.get("validations", {})) <= {"required"}
        needed = "value" if one["type"] == "markdown" else "label"
        assert one["attributes"][needed].strip()
        if one["type"] in {"dropdown", "checkboxes"}:
            options = [str(each) for each in one["attributes"]["options"]]
            assert len(set(options)) == len(options) > 0
    assert any(one.get("validations", {}).get("required") for one in fields)


def test_who_reports_a_wrong_verdict_is_warned_and_told_what_to_attach() -> None:
    body = yaml.safe_load((FORMS / "wrong-verdict.yml").read_text())["body"]
    text = " ".join(str(one["attributes"]) for one in body)
    for needed in ("Do not attach", "SHA-256", "d3 detect --json", "Prompts", "d3 evaluate"):
        assert needed in text
    (agreed,) = (one for one in body if one["type"] == "checkboxes")
    assert agreed["attributes"]["options"][0]["required"] is True
    assert isinstance(
        yaml.safe_load((FORMS / "config.yml").read_text())["blank_issues_enabled"], bool
    )


def test_what_builds_d3_is_locked_with_the_tools() -> None:
    """The image builds D3 without a network: from the group `build`, at the lock's versions."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(tables["build-system"]["requires"]) <= set(tables["dependency-groups"]["build"])
    lock = (ROOT / "requirements.lock").read_text()
    for one in tables["build-system"]["requires"]:
        assert f"\n{one.partition('>')[0]}==" in lock
