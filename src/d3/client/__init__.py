"""Clients of the D3 service: typed answers, automatic paging, retries.

::

    from d3 import Client

    with Client("http://localhost:5000") as client:
        prediction = client.predict("photo.jpg", threshold=0.5)
        print(prediction.result.verdict, prediction.inference_id)
        for item in client.history(is_fake=True):
            print(item.image_name, item.prediction)

:class:`AsyncClient` has the same calls for programs with an event loop::

    async with AsyncClient("http://localhost:5000") as client:
        prediction = await client.predict("photo.jpg")
        async for item in client.history(is_fake=True):
            print(item.image_name, item.prediction)

They need neither torch nor a model, only the service's address.
"""

from __future__ import annotations

from d3.client.asynchronous import AsyncClient
from d3.client.blocking import Client
from d3.client.calls.common import Panel, Rule
from d3.client.steps import ServiceError
from d3.client.uploads import File

__all__ = ["AsyncClient", "Client", "File", "Panel", "Rule", "ServiceError"]
