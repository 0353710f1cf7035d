"""Models, images and the files of jobs in buckets of MinIO or any other S3 server."""

from d3.adapters.minio.adoption import AdoptingRegistry
from d3.adapters.minio.bucket import S3Place
from d3.adapters.minio.collection import S3Collection, S3Images
from d3.adapters.minio.registry import MinioRegistry
from d3.adapters.minio.spool import S3Spool

__all__ = ["AdoptingRegistry", "MinioRegistry", "S3Collection", "S3Images", "S3Place", "S3Spool"]
