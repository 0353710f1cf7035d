"""D3 in an asyncio application: images are judged on threads, and the event loop goes on.

python asyncio_app.py photos/
"""

import asyncio
import sys
from pathlib import Path

import d3

AT_ONCE = 8  # those that wait at the same time share forward passes


async def judge(detector: d3.D3, image: Path, places: asyncio.Semaphore) -> str:
    async with places:
        try:
            detection = await asyncio.to_thread(detector.detect, image)
        except d3.D3Error as error:
            return f"{image.name}: {error}"
    return f"{image.name}: {detection.verdict} ({detection.prediction:.3f})"


async def main(images: list[Path]) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    with d3.D3() as detector:
        tasks = [judge(detector, image, places) for image in images]
        for answer in asyncio.as_completed(tasks):
            print(await answer)


if __name__ == "__main__":
    asyncio.run(main(sorted(Path(sys.argv[1]).iterdir())))
