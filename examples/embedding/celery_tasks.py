"""D3 in Celery: each worker process loads the model with its first task.

celery --app celery_tasks worker --concurrency 2

from celery_tasks import judge
judge.delay("/shared/photo.jpg").get()
"""

import os
from typing import Any

from celery import Celery

import d3

SERVER = os.environ.get("REDIS_URL", "redis://localhost/0")
app = Celery("images", broker=SERVER, backend=SERVER)
app.conf.update(
    task_acks_late=True,  # an image may be judged twice, and none is lost with its worker
    worker_prefetch_multiplier=1,  # no process hoards images while others are idle
)
# Do not judge an image out here: this module is imported before Celery forks its processes.


@app.task(name="judge")
def judge(path: str) -> dict[str, Any]:
    """The detection, or why there is none."""
    try:
        return d3.detect(path).to_dict()
    except d3.errors.ImageError as error:  # it is the image's fault: no retry will help
        return {"verdict": None, "code": error.code, "error": str(error)}
