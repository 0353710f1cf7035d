"""Add Debian's packages to an image's bill of materials (CycloneDX, JSON).

``python3 bill.py FILE`` reads and rewrites the file. Run it in the image that the bill is of.
Needs Python's standard library alone.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote


def packages(release: str) -> list[dict[str, Any]]:
    """Debian's installed packages as CycloneDX's components, by name."""
    query = ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\n"]
    said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    found = []
    for line in sorted(said.splitlines()):
        name, version, kind = line.split("\t")
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={kind}&distro={release}"
        component = {"type": "library", "name": name, "version": version, "purl": purl}
        found.append({"bom-ref": purl, **component})
    return found


def main(file: str) -> None:
    """Add them, and the operating system itself."""
    bill = json.loads(Path(file).read_text(encoding="utf-8"))
    system = platform.freedesktop_os_release()
    name, version = system["ID"], system.get("VERSION_ID", "")
    bill["components"] += [
        {"type": "operating-system", "bom-ref": "os", "name": name, "version": version},
        *packages(f"{name}-{version}"),
    ]
    Path(file).write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
