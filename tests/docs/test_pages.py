"""Every page of the documentation does what it shows: its blocks run, in order, in one folder.

``blocks`` has the comments for blocks that cannot be run, ``shell`` what runs them, ``checking``
what is looked at where they are not. A page's folder holds D3's examples in ``examples/``, a
generated image as ``photo.jpg``, photographs as ``a.jpg`` and ``b.png``, and ``photos/`` with
``real/`` and ``fake/``. Its D3_HOME is empty, so the model is the starter.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import d3
from d3 import Detection
from d3.domain.scans import ROW_FIELDS
from d3.domain.services.export import COLUMNS
from d3.entrypoints.http.api.scan_schemas import ScanResultItem
from d3.entrypoints.http.api.schemas import BatchItem, HistoryItem, Prediction, Result
from tests.docs.blocks import OWNED, ROOT, Block, blocks, code_spans
from tests.docs.checking import check, check_span
from tests.docs.shell import Shell, commands, differs, session

ELSEWHERE = {
    "docs/clients.md": "tests/e2e/test_clients_page.py",
    "docs/embedding.md": "tests/e2e/test_embedding.py",
    "docs/evidence.md": "tests/e2e/test_evidence.py",
    "clients/typescript/README.md": "tests/e2e/test_typescript.py",
    "examples/plugin/README.md": "tests/e2e/test_plugin.py",
}
"""Pages whose blocks another test runs; here they are checked, but for those it checks better."""

LEFT_TO_OTHERS = {"bash", "html", "ts"}

CHECKED = {
    "examples/README.md": "tests/e2e/test_readme.py runs the examples",
    "docs/deploy.md": "its commands are for PostgreSQL, Docker and machines that are not here",
    "docs/detectors.md": "its models are pulled from the network",
    "docs/drift.md": "it needs a history of months",
    "docs/int8.md": "quantising takes minutes; tests/integration/test_quantizing.py does it",
    "docs/published.md": "its models are pulled from the network",
    "docs/scale.md": "it needs a bucket and a cluster; tests/e2e/test_scan.py scans",
    "docs/train.md": "training takes minutes; tests/e2e/test_train.py does it",
    "docs/video.md": "its clips are made by tests/e2e/test_video.py",
    "docs/jobs.md": "it fetches links; tests/service/test_jobs.py has the calls",
    "docs/webhooks.md": "its receiver is on the internet; tests/e2e/test_webhooks.py has it",
    "docs/evaluate.md": "evaluations take minutes; the tutorial and tests/e2e/test_evaluate.py do",
}
"""Pages none of whose blocks is run, and why."""

LEFT_OUT = {
    "CHANGELOG.md": "tells what was",
    "src/d3/starter/MODEL_CARD.md": "is written by the recipe of the starter",
}

IMAGES = ROOT / "examples/images"
NAMES = {
    "photo.jpg": "generated-01-transposed.jpg",
    "a.jpg": "camera-01.jpg",
    "b.png": "camera-02.png",
}


def _pages() -> list[str]:
    skipped = {"node_modules", "_build", "data", "dist"}
    found: list[str] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [one for one in folders if not one.startswith(".") and one not in skipped]
        inside = Path(folder).relative_to(ROOT)
        found += [(inside / one).as_posix() for one in files if re.match(r"[^.].*\.md$", one)]
    return sorted(found)


PAGES = _pages()


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a page's blocks run."""
    folder = tmp_path / "here"
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name, source in NAMES.items():
        shutil.copy(IMAGES / source, folder / name)
    for kind, prefix in (("real", "camera"), ("fake", "generated")):
        (folder / "photos" / kind).mkdir(parents=True)
        for image in IMAGES.glob(f"{prefix}-*"):
            shutil.copy(image, folder / "photos" / kind)
    return folder


@pytest.fixture
def shell_home(tmp_path: Path, ready_file: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ready_file, home / "d3.db")
    return home


@pytest.mark.parametrize("page", [one for one in PAGES if one not in LEFT_OUT])
def test_a_page_does_what_it_shows(page: str, folder: Path, shell_home: Path) -> None:
    runs = page not in ELSEWHERE and page not in CHECKED
    todo = blocks(_text(page))
    if not (runs and any(one.note not in {*OWNED, "checked", "shown"} for one in todo)):
        for one in todo:
            _within(page, one, None)
        return
    with Shell(folder, shell_home) as shell:
        printed = ""
        for one in todo:
            printed = _within(page, one, shell, printed)


def _within(page: str, block: Block, shell: Shell | None, printed: str = "") -> str:
    """Do a block, and tell where a failure is; what it printed."""
    try:
        return _do(page, block, shell, printed)
    except Exception as error:
        raise AssertionError(f"{page}, line {block.line}: {str(error) or repr(error)}") from error


def _do(page: str, block: Block, shell: Shell | None, printed: str) -> str:
    if block.note in {*OWNED, "shown"} or (page in ELSEWHERE and block.kind in LEFT_TO_OTHERS):
        return ""
    if block.kind in {"", "text"}:
        _compare(block.text, printed)
    elif block.note == "write":
        assert shell is not None, "a page that is not run writes no files"
        file = shell.folder / block.value
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
    else:
        check(block)
        if shell is not None and block.note != "checked":
            return _perform(block, shell, page)
    return ""


def _perform(block: Block, shell: Shell, page: str) -> str:
    """Run a block; what it printed."""
    if block.kind == "console":
        _run_session(shell, block)
    elif block.kind in {"bash", "sh"}:
        return "".join(_run(shell, command) for command in commands(block.text))
    elif block.kind == "python":
        return shell.run_python(block.text, f"{page}:{block.line}")
    return ""


def _compare(text: str, printed: str) -> None:
    """A plain text is what the block before it printed, or words in a frame."""
    difference = differs(text, printed) if printed else None
    assert difference is None, difference
    assert not re.search(r"^(\$|d3) ", text, re.MULTILINE), "commands are `console` or `bash`"


def _run(shell: Shell, command: str) -> str:
    said = shell.run(command)
    assert said.code == 0, f"{command}\nends with {said.code} and prints\n{said.text}"
    return said.text


def _run_session(shell: Shell, block: Block) -> None:
    steps = session(block.text)
    followers = [command for command, _ in steps[1:]] + [""]
    for (command, promised), follower in zip(steps, followers, strict=True):
        said = shell.run(command)
        difference = differs(promised, said.text)
        assert difference is None, f"{command}\n{difference}"
        may_fail = "error: " in promised or "Error: " in promised or follower == "echo $?"
        assert said.code == 0 or may_fail, f"{command}\nends with {said.code}"


@pytest.mark.parametrize("page", [one for one in PAGES if one not in LEFT_OUT])
def test_what_a_page_names_is_there(page: str) -> None:
    for span in code_spans(_text(page)):
        check_span(span)


def test_what_a_result_says_is_what_it_has() -> None:
    named = set(_fields_of_the_page("| field | |", 1))
    for one in named:
        assert hasattr(Detection, one) or one in Detection.__dataclass_fields__, one
    described = {*d3.detect(IMAGES / "camera-01.jpg").to_dict()}
    assert described - named == {"image", "model", "calibration", "view_logits"}


def test_where_names_differ_they_are_those_of_each_place() -> None:
    kinds = [BatchItem, Prediction, Result], [HistoryItem], [ScanResultItem]
    names = [{one for kind in group for one in kind.__struct_encode_fields__} for group in kinds]
    places = [
        {*d3.detect(IMAGES / "camera-01.jpg").to_dict()},
        names[0] | {"predict", "predict-batch", "filename", "result"},
        names[1],
        {*COLUMNS},
        {*ROW_FIELDS} | names[2],
    ]
    for column, known in enumerate(places, start=2):
        named = {*_fields_of_the_page("| | library,", column)}
        assert named, column
        assert named <= known, named - known


def _fields_of_the_page(heading: str, column: int) -> list[str]:
    """The names in code's letters in a column of a table of the page about results."""
    table = heading + _text("docs/results.md").partition(heading)[2].partition("\n\n")[0]
    rows = [one.split("|") for one in table.splitlines()[2:]]
    return [name for row in rows for name in code_spans(row[column])]


def test_the_lists_of_pages_are_true() -> None:
    assert {*ELSEWHERE, *CHECKED, *LEFT_OUT} <= {*PAGES}
    for page, owner in ELSEWHERE.items():
        name = Path(page).name if page.startswith("docs") else Path(page).parent.name
        assert name in (ROOT / owner).read_text(encoding="utf-8"), owner


def test_a_wrong_page_fails(folder: Path, shell_home: Path) -> None:
    wrong = [
        Block("bash", "false", 1),
        Block("bash", "d3 detect --no-such-option photo.jpg", 1, "checked"),
        Block("bash", "d3 detekt photo.jpg", 1, "checked"),
        Block("bash", "D3_NO_SUCH=1 d3 serve", 1, "checked"),
        Block("bash", "curl localhost:5000/api/no/such", 1, "checked"),
        Block("bash", "pip install '.[nothing]'", 1, "checked"),
        Block("console", "$ echo one\ntwo\n", 1),
        Block("console", "$ d3 detect photo.jpg\n", 1),
        Block("console", "$ d3 detect nowhere.jpg\n...\n", 1),
        Block("python", "import d3\nd3.no_such", 1, "checked"),
        Block("python", "import d3\nd3.detect('a.jpg', no_such=1)", 1, "checked"),
        Block("python", "assert False", 1),
        Block("json", "{", 1),
        Block("cobol", "", 1),
        Block("text", "$ d3 detect photo.jpg", 1),
    ]
    with Shell(folder, shell_home) as shell:
        for one in wrong:
            with pytest.raises(AssertionError, match=r"page, line 1: ."):
                _within("page", one, shell)
