"""A Django management command that judges the photos which have no verdict yet.

Put this file into yourapp/management/commands/judge.py. Its model:

    class Photo(models.Model):
        image = models.ImageField()
        verdict = models.CharField(max_length=16, blank=True)
        prediction = models.FloatField(null=True)

python manage.py judge
"""

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandParser

import d3


class Command(BaseCommand):
    help = "Judge the photos that have no verdict yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", default="photos.Photo", help="APP.MODEL of the photos")
        parser.add_argument("--threshold", type=float)

    def handle(self, *_: Any, model: str, threshold: float | None, **__: Any) -> None:
        photos = apps.get_model(model).objects.filter(verdict="").order_by("pk")
        judged, failed = 0, 0
        with d3.D3() as detector:
            for photo in photos.iterator():
                try:
                    with photo.image.open() as file:
                        source = file.read()  # wherever the files lie: a folder, S3
                    found = detector.detect(source, name=photo.image.name, threshold=threshold)
                except (d3.errors.ImageError, OSError) as error:
                    self.stderr.write(f"{photo.image.name}: {error}")
                    failed += 1
                    continue
                photo.verdict, photo.prediction = found.verdict, found.prediction
                photo.save(update_fields=["verdict", "prediction"])
                judged += 1
        self.stdout.write(f"{judged} judged, {failed} not")
