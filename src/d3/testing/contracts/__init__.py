"""Contract suites, one for each port: what every adapter promises, written as pytest classes.

Inherit the suite in a test module and override its fixture::

    class TestMyRegistry(ModelRegistryContract):
        @pytest.fixture
        def registry(self, tmp_path):
            return MyRegistry(tmp_path)

Name this package to ``pytest.register_assert_rewrite`` in ``conftest.py`` to read failures well.
"""

from d3.testing.contracts.accounts import AccountsContract
from d3.testing.contracts.caches import ResultCacheContract
from d3.testing.contracts.checkpoints import CheckpointsContract
from d3.testing.contracts.clocks import ClockContract
from d3.testing.contracts.detectors import DetectorContract
from d3.testing.contracts.images import ImageDecoderContract
from d3.testing.contracts.queues import DetectionQueueContract
from d3.testing.contracts.registries import ModelRegistryContract

__all__ = [
    "AccountsContract",
    "CheckpointsContract",
    "ClockContract",
    "DetectionQueueContract",
    "DetectorContract",
    "ImageDecoderContract",
    "ModelRegistryContract",
    "ResultCacheContract",
]
