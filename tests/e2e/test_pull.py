"""``d3 models pull``, ``bundle`` and ``import`` in processes of their own, from a local mirror."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.e2e.conftest import Run
from tests.serving import d3_serve
from tests.sources import d3_knowing, mirroring, write_stand_ins


def test_pulled_bundled_carried_and_served(run: Run, pack: Path, tmp_path: Path) -> None:
    sources = write_stand_ins(tmp_path / "originals", pack)
    first, second = ({"D3_HOME": str(tmp_path / name)} for name in ("first", "second"))

    def pull(
        *arguments: str, name: str = "d3-vit-l14", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("D3_", "CUDA_"))}
        return subprocess.run(
            [*d3_knowing(sources), "models", "pull", name, *arguments],
            capture_output=True,
            text=True,
            env=inherited | first | environ,
            cwd=tmp_path,
            timeout=300,
            check=False,
        )

    with d3_serve(tmp_path, **second) as served:
        served.url()
        assert "Do not act on it" in served.text
        assert "`d3 models pull d3-vit-l14`" in served.text

    with mirroring(tmp_path / "originals") as mirror:
        good = mirror.files["classifier.pth"]
        mirror.files["classifier.pth"] = b"x" + good[1:]
        refused = pull("--from", mirror.url)
        assert refused.returncode == 2
        assert "is not the expected file classifier.pth" in refused.stderr
        assert "Traceback" not in refused.stderr
        mirror.files["classifier.pth"] = good
        mirror.asked.clear()
        mirror.cuts = [10_000]
        done = pull(D3_PULL_FROM=mirror.url)
        assert done.returncode == 0, done.stderr
        assert "Pulled d3-vit-l14 version 1." in done.stdout
        assert "states no licence" in done.stderr
        # The encoder, sound the first time, was not fetched again.
        assert [one[:2] for one in mirror.asked] == [
            ("classifier.pth", None),
            ("classifier.pth", "bytes=10000-"),
        ]

        mirror.asked.clear()
        for name in ("ufd-vit-l14", "ferretnet-s"):
            more = pull("--from", mirror.url, name=name)
            assert more.returncode == 0, more.stderr
            assert f"Pulled {name} version 1." in more.stdout
            assert f"`d3 models use {name}` makes it the default" in more.stderr
        fetched = [one[0] for one in mirror.asked]
        assert fetched == ["fc_weights.pth", "ferretnet-s-median-3.pth"]

    written = run("models", "bundle", "d3-vit-l14", **first)
    assert written.code == 0, written.err
    assert "Wrote d3-vit-l14 version 1 to d3-vit-l14.d3bundle" in written.out
    taken = run("models", "import", "d3-vit-l14.d3bundle", **second)
    assert "Imported d3-vit-l14 version 1." in taken.out
    again = run("models", "import", "d3-vit-l14.d3bundle", **second)
    assert "Already there: d3-vit-l14 version 1." in again.out
    image = pack / "images/rgb_224.png"
    answers = [json.loads(run("detect", "--json", image, **home).out) for home in (first, second)]
    assert answers[0]["model"]["name"] == "d3-vit-l14"
    assert answers[0]["logit"] == answers[1]["logit"]

    with d3_serve(tmp_path, **second) as served:
        served.url()
        assert "d3-vit-l14 version 1 is loaded" in served.text


def test_a_bundle_that_is_not_there_is_said_with_both_ways(run: Run) -> None:
    done = run("models", "import", "nothing.d3bundle")
    assert done.code == 2
    ways = "Name a bundle, or a NAME with --encoder and --head, --open-clip and --head, "
    assert f"{ways}--checkpoint or --file" in " ".join(done.err.split())
