"""How many workers a cluster's nodes get, told from what the nodes say they have."""

from __future__ import annotations

import pytest
import ray

from d3.adapters.ray import RayCluster
from d3.adapters.ray.cluster import Share


@pytest.mark.parametrize(
    ("nodes", "gpus", "expected"),
    [
        ([{"CPU": 1.0}], True, [Share(1, 0)]),
        ([{"CPU": 8.0}], True, [Share(4, 0)] * 2),
        ([{"CPU": 3.0}, {"CPU": 64.0, "GPU": 8.0}], True, [Share(3, 0)] + [Share(8, 1)] * 8),
        ([{"CPU": 2.0, "GPU": 4.0}], True, [Share(1, 1)] * 2),
        ([{"CPU": 8.0, "GPU": 1.0}], False, [Share(4, 0)] * 2),
        ([{"GPU": 1.0}, {}, {"CPU": 0.0}], True, []),
    ],
)
def test_one_for_each_gpu_or_for_some_cores(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], *, gpus: bool, expected: object
) -> None:
    said = [{"Alive": True, "Resources": one} for one in nodes]
    said.append({"Alive": False, "Resources": {"CPU": 9.0}})
    monkeypatch.setattr(ray, "nodes", lambda: said)
    cluster = RayCluster("auto", lambda *_: None, cores=4, gpus=gpus)
    assert list(cluster._shares()) == expected
