"""``python -m d3.entrypoints.http > docs/openapi.json`` writes the OpenAPI document."""

from __future__ import annotations

import json
import sys
from typing import Any

from d3.entrypoints.http import create_app
from d3.settings import Settings


def document() -> dict[str, Any]:
    """The OpenAPI document of this version, as JSON holds it."""
    found: dict[str, Any] = json.loads(
        json.dumps(create_app(Settings()).openapi_schema.to_schema())
    )
    return found


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    sys.stdout.write("\n")
