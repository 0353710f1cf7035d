"""Drift as alerts see it: computed once for a machine, with no number where none can be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import numpy as np
import pytest

from d3.adapters.sql import SqlHistory
from d3.container import Container
from d3.domain.drift import DriftReport, report
from d3.domain.errors import StorageUnavailable
from d3.domain.history import Day, NewEntry
from d3.domain.models import Manifest, ModelFile
from d3.domain.scoring import BINS, Calibration, Reference, Verdict, sigmoid
from d3.domain.services.drift import DriftService
from d3.entrypoints.http.drift_watch import GAUGES, DriftWatch
from d3.entrypoints.http.metrics import Metrics
from d3.testing.fakes import FakeClock
from d3.testing.models import tiny_manifest
from tests.homes import Home
from tests.service.conftest import Service
from tests.serving import wait_until
from tests.support.history import an_entry

IMAGES = b"d3_drift_images "


def predictions(seed: int, count: int, middle: float) -> list[float]:
    logits = np.random.default_rng(seed).normal(middle, 1.0, count).tolist()
    return [sigmoid(one) for one in logits]


def calibrated(home: Home) -> Manifest:
    """The model of the home with a calibration that has a reference, as its next version."""
    registry = Container(settings=home.settings()).registry()
    model = registry.open("mine")
    reference = Reference.of(predictions(1, 500, -2.0), predictions(2, 500, 2.0))
    changed = replace(model.manifest, calibration=Calibration(1.0, 0.0, "x", None, reference))
    stored: Manifest = registry.put(replace(model, manifest=changed))
    return stored


def entries(manifest: Manifest, middle: float, days: float) -> list[NewEntry]:
    """Results of real images of that long ago."""
    at = datetime.now(UTC) - timedelta(days=days)
    return [
        an_entry(
            prediction=one,
            is_fake=one > 0.5,
            verdict=Verdict.FAKE if one > 0.5 else Verdict.REAL,
            model=manifest.reference,
            created_at=at,
        )
        for one in predictions(3, 400, middle)
    ]


def gauges(service: Service) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in service.metrics().splitlines())
    return {
        name.removeprefix("d3_drift_"): float(value)
        for name, _, value in lines
        if name.startswith("d3_drift_")
    }


@pytest.mark.on_servers
def test_gauges_show_the_drift_of_the_last_week(home: Home, start: Callable[..., Service]) -> None:
    manifest = calibrated(home)
    with home.database() as database:
        history = SqlHistory(database)
        history.add_many(entries(manifest, -2.0, days=8))
        history.add_many(entries(manifest, -0.5, days=1))
    service = start()
    wait_until(lambda: gauges(service)["images"] == 400)
    found = gauges(service)
    assert set(found) == set(GAUGES)
    assert found["worst_day_psi_low"] == found["psi_low"]
    assert 0.1 < found["psi_low"] < found["psi"] < found["psi_high"]
    assert found["uncertain_share"] == 0
    assert math.isnan(found["fpr"])  # nobody labelled anything


class FailingDrift:
    """A database that is there once, and then away."""

    def __init__(self) -> None:
        self.asked: list[datetime] = []

    def report(self, *, since: datetime) -> DriftReport:
        self.asked.append(since)
        if len(self.asked) > 1:
            raise StorageUnavailable("It is away.")
        day = Day(start=since, scores=(7,) * BINS, uncertain=14, labelled={})
        return report(tiny_manifest(ModelFile("a" * 64, 1), ModelFile("b" * 64, 1)), [day])


def test_while_the_database_is_away_there_are_no_numbers() -> None:
    clock, metrics, drift = FakeClock(), Metrics(), FailingDrift()
    watch = DriftWatch(cast(DriftService, drift), clock)
    watch.register_gauges(metrics)

    def images() -> list[bytes]:
        return [one for one in metrics.render()[0].splitlines() if one.startswith(IMAGES)]

    assert images() == [IMAGES + b"NaN"]
    watch.look()
    assert images() == [IMAGES + b"140.0"]
    watch.look()
    assert images() == [IMAGES + b"NaN"]
    assert drift.asked == [clock.now() - timedelta(days=7)] * 2
