"""`d3 serve --workers N` beside the single process, in turns in one run.

    python benchmarks/http/workers.py [--seconds 5] [--rounds 5] [--connections 64] [--workers 1 2]

The detector and the decoder do nothing, each answer waits for its row in SQLite. "single" is one
process as `d3 serve` runs it; "1" and "2" have an engine process beside so many fronts. CPU
milliseconds a request are given for each kind of process and for wrk. With `--pin`, wrk has a core
of its own and the service the others. With `--device-ms`, the device takes so long for an image and
how busy it was is shown. Needs wrk (Debian: `apt install wrk`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
Lap: TypeAlias = tuple[Any, dict[str, float]]
"""What wrk measured, and CPU milliseconds a request of each kind of process."""
_TICKS = os.sysconf("SC_CLK_TCK")


def serve(workers: int, port: int) -> int:
    """One contestant: 0 workers are the single process."""
    from idle import NoDecoder, NoEngine, OneModel

    from d3.entrypoints.http.app import application_of
    from d3.entrypoints.http.services import new
    from d3.entrypoints.serving import children, server
    from d3.entrypoints.serving import workers as several
    from d3.entrypoints.serving.listening import listen
    from d3.settings import Settings

    home = Path(os.environ["BENCHMARK_FOLDER"]) / str(workers)
    home.mkdir(exist_ok=True)
    settings = Settings(home=home, cache_entries=0, cuda_device="cpu", log_level="warning")
    listeners = listen("127.0.0.1", port, max(1, workers))
    if not workers:
        services = new(settings, engine=NoEngine(), registry=OneModel(), decoder=NoDecoder())
        application = application_of(services)
        application.d3.start()
        return server.run(application, settings, listeners.sockets[0], None)
    children.ENGINE = ("-u", str(HERE / "idle_engine.py"), "engine")
    return several.serve(
        several.Service(
            settings,
            read=lambda: settings,
            listeners=listeners,
            tls=lambda _: None,
            prepare=lambda _: None,
            ready=lambda: None,
            application=lambda own, sockets: application_of(
                new(own, sockets, registry=OneModel(), decoder=NoDecoder())
            ),
        ),
        workers,
    )


def cpu_seconds(group: int) -> dict[str, float]:
    """CPU seconds of each kind of process below the process ``group``."""
    found: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        pid, parent = int(entry.name), int(fields[1])
        if group not in (pid, parent):
            continue
        kind = "engine" if b"idle_engine" in command else "front" if pid != group else "main"
        found[kind] = found.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--connections", type=int, nargs="+", default=[64])
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--pin", action="store_true")
    arguments.add_argument("--device-ms", type=float, default=0.0)
    arguments.add_argument("--serve", type=int, nargs=2, metavar=("WORKERS", "PORT"))
    chosen = arguments.parse_args()
    if chosen.serve:
        sys.exit(serve(*chosen.serve))
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk: apt install wrk")
    import run

    cores = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "-c", str(cores[-1])] if chosen.pin else []
    rest = ["taskset", "-c", ",".join(map(str, cores[:-1]))] if chosen.pin else []
    counts = [0, *chosen.workers]
    with tempfile.TemporaryDirectory() as name:
        script = run.write_script(Path(name))
        environ = os.environ | {
            "BENCHMARK_FOLDER": name,
            "BENCHMARK_DEVICE_MS": str(chosen.device_ms),
        }
        started = {
            count: subprocess.Popen(
                [*rest, sys.executable, __file__, "--serve", str(count), str(5110 + count)],
                env=environ,
                start_new_session=True,
            )
            for count in counts
        }
        try:
            for count in counts:
                run.wait_for(5110 + count)
            time.sleep(3)
            print(f"{len(cores)} cores, python {sys.version.split()[0]}")
            for connections in chosen.connections:
                laps: dict[int, list[Lap]] = {count: [] for count in counts}
                for _ in range(chosen.rounds):
                    for count in counts:
                        laps[count].append(
                            lap(
                                started[count].pid,
                                5110 + count,
                                script,
                                connections,
                                seconds=chosen.seconds,
                                pin=pin,
                            )
                        )
                show(connections, laps, chosen.device_ms / 1000)
        finally:
            for process in started.values():
                process.send_signal(signal.SIGTERM)
            for process in started.values():
                process.wait(40)


def lap(
    pid: int, port: int, script: Path, connections: int, *, seconds: int, pin: list[str]
) -> Lap:
    """One lap of wrk; also the CPU seconds a request of each kind of process."""
    import run

    before, children = cpu_seconds(pid), os.times()
    contestant = run.Contestant("", [], "/api/inference/predict", port)
    measured = run.measure(contestant, script, connections, seconds, pin)
    after, ended = cpu_seconds(pid), os.times()
    requests = measured.per_second * seconds
    used = {kind: 1000 * (after[kind] - before.get(kind, 0)) / requests for kind in after}
    wrk = ended.children_user + ended.children_system
    wrk -= children.children_user + children.children_system
    return measured, used | {"wrk": 1000 * wrk / requests}


def show(connections: int, laps: dict[int, list[Lap]], device_seconds: float) -> None:
    """The medians."""
    rates = {
        count: statistics.median(one.per_second for one, _ in measured)
        for count, measured in laps.items()
    }
    for count, measured in laps.items():
        p50 = statistics.median(one.p50 for one, _ in measured)
        p99 = statistics.median(one.p99 for one, _ in measured)
        failures = sum(one.failures for one, _ in measured)
        kinds = sorted({kind for _, used in measured for kind in used})
        used = "  ".join(
            f"{kind} {statistics.median(one.get(kind, 0) for _, one in measured):.3f}"
            for kind in kinds
        )
        name = f"workers {count}" if count else "single"
        if device_seconds:
            used += f"  device {rates[count] * device_seconds:.0%} busy"
        print(
            f"{name:10} {connections:4} connections {rates[count]:6.0f}/s "
            f"{rates[count] / rates[0]:5.2f} of single  p50 {p50:.1f} p99 {p99:.1f} ms  "
            f"CPU ms a request: {used}" + (f"  {failures} failed" if failures else "")
        )


if __name__ == "__main__":
    main()
