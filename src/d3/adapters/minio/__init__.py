"""Models in a bucket of MinIO or any other S3 server."""

from d3.adapters.minio.bucket import S3Place
from d3.adapters.minio.registry import MinioRegistry

__all__ = ["MinioRegistry", "S3Place"]
