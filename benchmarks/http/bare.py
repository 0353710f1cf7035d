"""The least that Litestar can do: read the multipart body and answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Litestar, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body


class Form(msgspec.Struct):
    """The form of `predict`."""

    file: UploadFile


@post("/predict", status_code=200)
async def predict(
    data: Annotated[Form, Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    """Read the file and say how long it is."""
    return {"success": True, "bytes": len(await data.file.read())}


app = Litestar([predict], openapi_config=None)
