"""Links out of docs/: pages that show a file of the repository, and downloads of the others.

A page whose front matter has ``shows: CHANGELOG.md`` consists of that file. Links to such a file
lead to its page. A link to a folder leads to its README, if a page shows it, else to a ZIP file.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from sphinx.application import Sphinx

_SHOWS = re.compile(r"\A---\nshows: (?P<file>\S+)\n---\n")
_LINK = re.compile(
    r"(?P<before>\]\(|^\[[^\]]+\]: )(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?", re.MULTILINE
)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|/")
_FIRST_PAGE = "README.md"


class Repository:
    """The files beside docs/, and which pages show them."""

    def __init__(self, docs: Path, folders: Path) -> None:
        self.docs = docs.resolve()
        self.root = self.docs.parent
        self._folders = folders
        self.pages = {self.root / _FIRST_PAGE: self.docs / "index.md"}
        for page in self.docs.rglob("*.md"):
            if found := _SHOWS.match(page.read_text(encoding="utf-8")):
                self.pages[self.root / found["file"]] = page

    def source(self, page: Path, text: str) -> tuple[str, Path]:
        """What a page consists of, with links that work in the site, and the file it is from."""
        shown = _SHOWS.match(text)
        origin = self.root / shown["file"] if shown else page
        if shown:
            text = origin.read_text(encoding="utf-8")
        return _LINK.sub(lambda found: self._link(found, page, origin), text), origin

    def _link(self, found: re.Match[str], page: Path, origin: Path) -> str:
        anchor = found["anchor"] or ""
        if _ELSEWHERE.match(found["target"]):
            return found[0]
        target = Path(os.path.normpath(origin.parent / found["target"]))
        if not target.exists() or (origin == page and target.is_relative_to(self.docs)):
            return found[0]  # Sphinx says if it is broken
        if target.is_dir():
            target = self._of_folder(target)
        target = self.pages.get(target, target)
        return f"{found['before']}{os.path.relpath(target, page.parent)}{anchor}"

    def _of_folder(self, folder: Path) -> Path:
        if (readme := folder / "README.md") in self.pages:
            return readme
        self._folders.mkdir(parents=True, exist_ok=True)
        made = self._folders / f"{folder.name}.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, file.relative_to(folder.parent))
        return made


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    repository = Repository(Path(app.srcdir), Path(app.doctreedir) / "folders")
    content[0], origin = repository.source(page.resolve(), content[0])
    if origin != page:
        app.env.note_dependency(str(origin))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
