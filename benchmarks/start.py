"""What a command costs from its start to its end, beside ``import torch``.

    python benchmarks/start.py [--rounds 5]

Real processes take turns; medians count. ``cpu`` is user and system time of the process and its
children, ``wall`` is what one waits. The first round is not counted: it makes the database and
Python's compiled files, which pip makes when it installs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

D3 = [sys.executable, "-m", "d3"]
PHOTO = Path(__file__).parent.parent / "examples/images/camera-01.jpg"
COMPLETION = {"_D3_COMPLETE": "bash_complete", "COMP_WORDS": "d3 models info ", "COMP_CWORD": "3"}
CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], {}),
    "import torch": ([sys.executable, "-c", "import torch"], {}),
    "d3 detect photo.jpg": ([*D3, "detect", str(PHOTO)], {}),
    "d3 detect nosuch.jpg": ([*D3, "detect", "nosuch.jpg"], {}),
    "d3 detect --views 99 photo.jpg": ([*D3, "detect", "--views", "99", str(PHOTO)], {}),
    "d3 --help": ([*D3, "--help"], {}),
    "d3 models list": ([*D3, "models", "list"], {}),
    "d3 keys list": ([*D3, "keys", "list"], {}),
    "d3 scans list": ([*D3, "scans", "list"], {}),
    "d3 db current": ([*D3, "db", "current"], {}),
    "d3 models info <TAB>": (D3, COMPLETION),
}


def measure(command: list[str], environment: dict[str, str], folder: str) -> tuple[float, float]:
    """Seconds of processor time, and seconds waited."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False)
    waited, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, waited


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + rounds):
            for name, (command, more) in CASES.items():
                environment = inherited | {"D3_HOME": folder} | more
                taken[name].append(measure(command, environment, folder))
    print("| | cpu s | wall s |\n|---|---|---|")
    for name, times in taken.items():
        cpu, wall = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(f"| `{name}` | {cpu:.2f} | {wall:.2f} |")


if __name__ == "__main__":
    main()
