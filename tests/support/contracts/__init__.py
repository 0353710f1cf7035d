"""Contract suites, one for each port: what every adapter promises, written as pytest classes.

Inherit the suite in a test module and override its fixture::

    class TestMyRegistry(ModelRegistryContract):
        @pytest.fixture
        def registry(self, tmp_path):
            return MyRegistry(tmp_path)

Name this package to ``pytest.register_assert_rewrite`` in ``conftest.py`` to read failures well.
"""

from tests.support.contracts.accounts import AccountsContract
from tests.support.contracts.architectures import ArchitecturesContract
from tests.support.contracts.caches import ResultCacheContract
from tests.support.contracts.clocks import ClockContract
from tests.support.contracts.detectors import DetectorContract
from tests.support.contracts.images import ImageDecoderContract
from tests.support.contracts.queues import DetectionQueueContract
from tests.support.contracts.registries import ModelRegistryContract

__all__ = [
    "AccountsContract",
    "ArchitecturesContract",
    "ClockContract",
    "DetectionQueueContract",
    "DetectorContract",
    "ImageDecoderContract",
    "ModelRegistryContract",
    "ResultCacheContract",
]
