"""Panels of real networks: what a member says does not depend on who else judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import d3
from d3.adapters.filesystem import FilesystemRegistry
from d3.container import Container
from d3.domain.errors import ExplanationUnavailable, SettingsInvalid, ViewsInvalid
from d3.domain.inputs import Fit
from d3.domain.models import StoredModel
from d3.settings import Settings
from d3.testing.models import tiny_ferretnet, tiny_model, tiny_ufd
from tests.support.images import noise, png

IMAGE = png(noise(90, 70, 3))
MEMBERS = ("tiny", "probe", "cropping", "ferret")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D3, two probes on its encoder of which one shares its pixels, and a FerretNet."""
    folder, home = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("home")
    own = tiny_model(folder, "tiny")
    models: list[StoredModel] = [
        own,
        tiny_ufd(folder, "probe", beside=own, fit=Fit.SQUASH, seed=1),
        tiny_ufd(folder, "cropping", beside=own, seed=2),
        tiny_ferretnet(folder, "ferret"),
    ]
    registry = FilesystemRegistry(home / "models")
    for one in models:
        registry.put(one)
    return home


@pytest.fixture(params=["torch", "openvino"])
def settings(request: pytest.FixtureRequest, store: Path) -> Settings:
    return Settings(home=store, engine=request.param, cuda_device="cpu", model="tiny")


@pytest.fixture
def detector(settings: Settings) -> Iterator[d3.D3]:
    with d3.D3(settings) as detector:
        yield detector


def said(found: d3.Detection) -> dict[str, float]:
    assert found.panel_verdict is not None
    assert found.panel_verdict.missing == ()
    return {one.model.name: one.logit for one in found.panel_verdict.opinions}


@pytest.mark.parametrize("panel", [MEMBERS, tuple(reversed(MEMBERS))])
def test_every_member_says_what_it_says_alone(
    panel: Sequence[str], detector: d3.D3, settings: Settings
) -> None:
    found = said(detector.detect(IMAGE, panel=panel))
    assert list(found) == list(panel)
    with d3.D3(settings) as other:
        alone = {one: other.detect(IMAGE, panel=[one]).logit for one in panel}
    assert found == pytest.approx(alone, abs=1e-5)
    assert len(set(found.values())) == len(MEMBERS)


def test_views_are_the_members_that_have_them(detector: d3.D3) -> None:
    one, four = (said(detector.detect(IMAGE, panel=MEMBERS, views=views)) for views in (1, 4))
    assert one["tiny"] != four["tiny"]
    assert {name: one[name] for name in MEMBERS[1:]} == pytest.approx(
        {name: four[name] for name in MEMBERS[1:]}, abs=1e-5
    )
    with pytest.raises(ViewsInvalid, match="The model 'probe' cannot average 2 views"):
        detector.detect(IMAGE, panel=("probe", "tiny"), views=2)


def test_many_images_in_batches_give_each_member_the_same(detector: d3.D3) -> None:
    images = [png(noise(90, 70, seed)) for seed in range(7)]
    many = [said(one) for one in detector.detect_many(images, panel=MEMBERS, batch_size=3)]
    one_by_one = [said(detector.detect(image, panel=MEMBERS)) for image in images]
    for some, other in zip(many, one_by_one, strict=True):
        assert some == pytest.approx(other, abs=1e-5)


def test_the_panel_of_the_settings_judges_where_no_other_is_named(store: Path) -> None:
    settings = Settings(home=store, cuda_device="cpu", panel=("tiny", "ferret", "nobody"))
    with d3.D3(settings) as detector:
        found = detector.detect(IMAGE)
        assert found.panel_verdict is not None
        assert [one.model.name for one in found.panel_verdict.opinions] == ["tiny", "ferret"]
        (absent,) = found.panel_verdict.missing
        assert (absent.model, absent.code) == ("nobody", "model_not_found")
        assert detector.detect(IMAGE, panel=["ferret"]).panel_verdict is None


def test_only_the_model_whose_map_it_is_can_be_explained(store: Path) -> None:
    """A detector explains its first model; a probe in the same pass has no map."""
    both = Settings(home=store, engine="torch", cuda_device="cpu", panel=("probe", "tiny"))
    with d3.D3(both) as detector, pytest.raises(ExplanationUnavailable, match="ufd"):
        detector.explain(IMAGE)
    turned = Settings(home=store, engine="torch", cuda_device="cpu", panel=("tiny", "probe"))
    with (
        d3.D3(turned) as detector,
        d3.D3(Settings(home=store, model="tiny", engine="torch")) as own,
    ):
        there, alone = detector.explain(IMAGE), own.explain(IMAGE)
        assert there.model.name == "tiny"
        assert there.logits == pytest.approx(alone.logits, abs=1e-5)


def test_a_request_gets_the_map_of_the_model_that_it_names(store: Path) -> None:
    other = "its-sibling"
    registry = FilesystemRegistry(store / "models")
    own = registry.open("tiny")
    registry.put(replace(own, manifest=replace(own.manifest, name=other)))
    panel = ("tiny", other, "probe", "ferret")
    settings = Settings(home=store, engine="torch", cuda_device="cpu", panel=panel)
    container = Container(settings=settings)
    host, explaining = container.host(), container.explaining()
    host.load()
    drawn = {one: explaining.begin(IMAGE, 1, lambda found: found, model=one) for one in panel}
    assert drawn["tiny"].result(60).model.name == "tiny"
    why = {one: str(drawn[one].exception(60)) for one in panel[1:]}
    assert "as the model in use" in why[other]
    assert "of a ufd cannot be explained" in why["probe"]
    assert "of a ferretnet cannot be explained" in why["ferret"]
    assert host.close(60)


def test_settings_that_contradict_each_other_are_refused_with_a_sentence() -> None:
    with pytest.raises(SettingsInvalid, match="leave D3_MODEL out"):
        Settings.from_environment({"D3_PANEL": "tiny,ferret", "D3_MODEL": "ferret"}, None)
    with pytest.raises(SettingsInvalid, match="1 to 8 different models"):
        Settings.from_environment({"D3_PANEL": "tiny,tiny"}, None)
    same = Settings.from_environment({"D3_PANEL": "tiny, ferret", "D3_MODEL": "tiny"}, None)
    assert (same.chief, same.panel) == ("tiny", ("tiny", "ferret"))
