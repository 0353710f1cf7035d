"""D3 as a library: one image, many images, and how sure the answers are.

python examples/library.py
"""

from pathlib import Path

import d3

IMAGES = sorted((Path(__file__).parent / "images").iterdir())

print(d3.detect(IMAGES[0]).verdict)

with d3.D3() as detector:
    for detection in detector.detect_many(IMAGES, views=4, errors="return"):
        if isinstance(detection, d3.Failure):
            print(f"{detection.name}: {detection.error}")
            continue
        print(
            f"{Path(detection.name).name:36} {detection.verdict:10}"
            f"{detection.prediction:6.3f} ± {detection.spread / 2:.3f}"
        )
