"""LitServe in front of the device; in a module of its own, since its worker is spawned."""

import base64
from typing import Any

import litserve
import numpy as np
from devices import BATCH, decoded, device

from d3.domain.images import Pixels


class Api(litserve.LitAPI):
    """Decoding and device in one worker, as its documentation has it."""

    def setup(self, device: Any) -> None:
        self.detector = make_device()

    def decode_request(self, request, **_: Any) -> Pixels:  # type: ignore[no-untyped-def]  # noqa: ANN001  a type would say how to parse
        return decoded(base64.b64decode(request["image"]))

    def batch(self, inputs: list[Pixels]) -> Pixels:
        return np.stack(inputs)

    def predict(self, x: Pixels, **_: Any) -> list[float]:
        return self.detector.score(x, 1)[:, 0].tolist()  # type: ignore[no-any-return]

    def unbatch(self, output: list[float]) -> list[float]:
        return output

    def encode_response(self, output: float, **_: Any) -> dict[str, Any]:
        return {"success": True, "logit": output}


make_device = device


def serve(port: int, wait: float, seconds: int) -> None:
    """Run it."""
    api = Api(max_batch_size=BATCH, batch_timeout=wait)
    server = litserve.LitServer(api, accelerator="cpu", timeout=seconds)
    server.run(port=port, log_level="warning", generate_client_file=False)
