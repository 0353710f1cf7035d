"""What the explanation pages state is so: numbers are computed, names exist, figures are fresh."""

import re
from pathlib import Path

import pytest

from d3.domain.errors import D3Error
from d3.domain.intervals import wilson

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "explanation"


def rows(page: str, columns: int) -> list[list[str]]:
    """The cells of every table row of so many columns, without heads."""
    cells = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    )
    return [row for row in cells if len(row) == columns]


def number(text: str) -> float:
    return float(text.replace(",", "").removesuffix(" %"))


def test_the_worth_of_an_alarm_is_as_computed():
    page = (PAGES / "probability.md").read_text(encoding="utf-8")
    found = [row for row in rows(page, 4) if row[0].endswith("%")]
    assert len(found) == 4
    for share, hits, alarms, right in found:
        generated = 10_000 * number(share) / 100
        true, false = 0.8 * generated, 0.01 * (10_000 - generated)
        assert number(hits) == round(true)
        assert number(alarms) == round(false)
        assert number(right) == round(100 * true / (true + false), 1)
    worse = 0.8 * 200 / (0.8 * 200 + 0.05 * 9800)
    assert f"from 62.0 % to {100 * worse:.1f} %" in page


def test_the_chance_of_one_image_is_as_computed():
    page = (PAGES / "probability.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block
    names: dict[str, object] = {}
    exec(block[1], names)  # its assertions are the page's own numbers
    assert names["chance"](0.9, 0.02) == pytest.approx((9 / 49) / (1 + 9 / 49))  # type: ignore[operator]


def test_the_intervals_of_small_samples_are_as_computed():
    page = (PAGES / "calibration.md").read_text(encoding="utf-8")
    found = [row for row in rows(page, 4) if row[0].isdecimal()]
    assert len(found) == 6
    for hits, total, said, _ in found:
        low, high = (round(100 * end, 1) for end in wilson(int(hits), int(total)))
        assert said == f"{low} to {high} %"


def test_every_module_that_the_architecture_names_exists():
    page = (PAGES / "architecture.md").read_text(encoding="utf-8")
    drawing = (PAGES / "architecture.svg").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])([a-z_]+(?:/[a-z_]+)*(?:\.py|/))(?=[`<:,])", page + drawing))
    named -= {"figures.py", "redis.py"}
    assert len(named) > 30
    assert [one for one in named if not (ROOT / "src" / "d3" / one).exists()] == []
    adapters = re.findall(r'class="middle small">([a-z]+)<', drawing)
    assert len(adapters) > 10
    homes = ROOT / "src" / "d3" / "adapters"
    assert [one for one in adapters if one != "optional" and not (homes / one).is_dir()] == []


def test_the_figures_are_those_of_the_script():
    names: dict[str, object] = {"__file__": str(PAGES / "figures.py"), "__name__": "figures"}
    exec((PAGES / "figures.py").read_text(encoding="utf-8"), names)
    for name in ("calibration", "architecture"):
        drawn = names[name]()  # type: ignore[operator]
        assert drawn == (PAGES / f"{name}.svg").read_text(encoding="utf-8")


def test_every_error_that_a_page_links_has_that_code():
    pages = [
        *PAGES.glob("*.md"),
        ROOT / "docs" / "glossary.md",
        ROOT / "docs" / "troubleshooting.md",
    ]
    linked = {
        code
        for page in pages
        for code in re.findall(r"errors\.md#(\w+)", page.read_text(encoding="utf-8"))
    }
    kinds, codes = [D3Error], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    assert len(linked) > 25
    assert linked - codes == set()


def test_the_messages_in_the_tables_of_troubleshooting_are_in_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [one[1] for one in re.finditer(r"^\| `((?:\.\.\. |[A-Z]).*?)` \|", page, re.MULTILINE)]
    assert len(quoted) > 8
    source = " ".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src" / "d3").rglob("*.py")
    )
    words = re.sub(r"[\"']\s*f?[\"']", "", source)  # a sentence may go on in the next line
    for message in quoted:
        said = re.split(r"127\.|\.\.\.$", message.removeprefix("... "))[0].strip()
        assert said in words, message
