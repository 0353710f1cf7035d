"""An engine process whose detector does nothing."""

import signal
import threading

from idle import NoEngine, OneModel

from d3.container import Container
from d3.entrypoints.http.machine_metrics import share_metrics
from d3.entrypoints.serving.control import EngineStart
from d3.entrypoints.serving.engine import EngineService

given = EngineStart.receive()
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
share_metrics(given.settings.home / "run" / "metrics")
container = Container(settings=given.settings)
container.engine.override(NoEngine())
container.registry.override(OneModel())
service = EngineService(container, given.number)
given.control.answer_in_thread()
service.start(given.listener)
given.control.ready()
stopping.wait()
service.stop()
