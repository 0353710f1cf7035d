"""Every adapter keeps its port's contract."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.filesystem import FilesystemRegistry
from d3.adapters.in_process import SystemClock
from d3.adapters.minio import MinioRegistry, S3Place
from d3.adapters.openvino import OpenVinoEngine
from d3.adapters.pillow import PillowDecoder
from d3.adapters.pillow.isolated import IsolatedDecoder
from d3.adapters.torch import TorchArchitectures, TorchEngine
from d3.domain.models import ModelFile
from d3.domain.ports.detector import Detector
from d3.domain.ports.queue import DetectionQueue
from d3.testing import FakeClock
from tests.stores import tamper
from tests.support.contracts import (
    ArchitecturesContract,
    ClockContract,
    DetectionQueueContract,
    DetectorContract,
    ImageDecoderContract,
    ModelRegistryContract,
)
from tests.support.memory import MemoryRegistry
from tests.support.remote import remote_queue
from tests.support.stores import S3Server


@pytest.fixture(scope="module")
def isolated_decoder():
    decoder = IsolatedDecoder()
    yield decoder
    decoder.close()


class TestIsolatedDecoder(ImageDecoderContract):
    @pytest.fixture
    def decoder(self, isolated_decoder):
        return isolated_decoder


class TestPillowDecoder(ImageDecoderContract):
    @pytest.fixture
    def decoder(self) -> PillowDecoder:
        return PillowDecoder()


class TestTorchDetector(DetectorContract):
    @pytest.fixture
    def engine(self) -> TorchEngine:
        return TorchEngine("cpu", "fp32")


@pytest.mark.filterwarnings("ignore:This processor has no bfloat16")
class TestTorchDetectorInBfloat16(DetectorContract):
    tolerance = 0.05
    batch_tolerance = 0.02

    @pytest.fixture
    def engine(self) -> TorchEngine:
        return TorchEngine("cpu", "bf16")


class TestTorchDetectorInSmallBatches(DetectorContract):
    @pytest.fixture
    def engine(self) -> TorchEngine:
        return TorchEngine("cpu", "fp32", batch_size=1)


class TestOpenVinoDetector(DetectorContract):
    @pytest.fixture
    def engine(self, prepared_encoders: Path) -> OpenVinoEngine:
        return OpenVinoEngine(prepared_encoders, "fp32")


@pytest.mark.filterwarnings("ignore:bf16 brings nothing")
class TestOpenVinoDetectorInBfloat16(DetectorContract):
    tolerance = 0.05
    batch_tolerance = 0.02

    @pytest.fixture
    def engine(self, prepared_encoders: Path) -> OpenVinoEngine:
        return OpenVinoEngine(prepared_encoders, "bf16")


class TestOfflineQueue(DetectionQueueContract):
    @pytest.fixture
    def make_queue(self) -> Callable[[Detector], ThreadedQueue]:
        return lambda detector: ThreadedQueue(detector, SystemClock(), Bounds.offline(32))


class TestThreadedQueue(DetectionQueueContract):
    @pytest.fixture
    def make_queue(self) -> Callable[[Detector], ThreadedQueue]:
        return lambda detector: ThreadedQueue(detector, SystemClock())


class TestRemoteQueue(DetectionQueueContract):
    @pytest.fixture
    def make_queue(self) -> Callable[[Detector], DetectionQueue]:
        return remote_queue


class TestThreadedQueueInSmallBatches(DetectionQueueContract):
    @pytest.fixture
    def make_queue(self) -> Callable[[Detector], ThreadedQueue]:
        return lambda detector: ThreadedQueue(detector, SystemClock(), Bounds(batch_size=3))


class TestFilesystemRegistry(ModelRegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> FilesystemRegistry:
        return FilesystemRegistry(tmp_path / "models")

    def tamper(self, registry: FilesystemRegistry, file: ModelFile, content: bytes | None) -> None:
        blob = registry._blob_path(file)
        blob.unlink()
        if content is not None:
            blob.write_bytes(content)


class TestMemoryRegistry(ModelRegistryContract):
    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        return MemoryRegistry()

    def tamper(self, registry: MemoryRegistry, file: ModelFile, content: bytes | None) -> None:
        registry._contents.pop(file.sha256)
        if content is not None:
            registry._contents[file.sha256] = content


class TestMinioRegistry(ModelRegistryContract):
    """On two S3 servers that have nothing in common."""

    @pytest.fixture
    def registry(self, place: S3Place, tmp_path: Path, s3: S3Server) -> MinioRegistry:
        self.server = s3
        return MinioRegistry(place, tmp_path / "cache")

    def tamper(self, registry: MinioRegistry, file: ModelFile, content: bytes | None) -> None:
        tamper(self.server, registry, file, content)


class TestTorchArchitectures(ArchitecturesContract):
    @pytest.fixture
    def architectures(self) -> TorchArchitectures:
        return TorchArchitectures()


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> SystemClock:
        return SystemClock()


class TestFakeClock(ClockContract):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    def test_time_passes_only_when_told(self, clock: FakeClock) -> None:
        before = clock.now()
        clock.advance(2.5)
        assert (clock.now() - before, clock.monotonic()) == (timedelta(seconds=2.5), 2.5)
