"""What S3 servers answer when they refuse, in our words: each names the setting to look at.

Nothing of the server's text gets into a message: it may hold keys, and it is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

import urllib3.exceptions as http
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from d3.domain.errors import D3Error, StorageFailed, StorageUnavailable

_CODE = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_KEYS = "Check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
_REFUSALS = {
    "InvalidAccessKeyId": ("does not know the access key.", "Check MINIO_ACCESS_KEY."),
    "SignatureDoesNotMatch": (
        "rejects the signature.",
        "Check MINIO_SECRET_KEY, and that no proxy changes the Host header.",
    ),
    "RequestTimeTooSkewed": (
        "rejects the request because the clocks of this machine and the server differ too much.",
        "Correct this machine's clock or the server's, for example with NTP.",
    ),
    "AuthorizationHeaderMalformed": ("expects another region.", "Check D3_S3_REGION."),
    "PermanentRedirect": (
        "keeps the bucket in another region.",
        "Check D3_S3_REGION and MINIO_ENDPOINT.",
    ),
    "NoSuchBucket": ("has no such bucket.", "Check MINIO_BUCKET_NAME."),
    "XMinioStorageFull": ("is full.", "Free space on the store, or remove models."),
    "QuotaExceeded": ("is full: its quota is used up.", "Raise the quota, or remove models."),
    "BucketAlreadyExists": (
        "has a bucket with this name that belongs to another account.",
        "Choose another MINIO_BUCKET_NAME.",
    ),
}
_REFUSALS["RequestExpired"] = _REFUSALS["RequestTimeTooSkewed"]
_REFUSALS["IllegalLocationConstraintException"] = _REFUSALS["AuthorizationHeaderMalformed"]
_REFUSALS["InvalidRegion"] = _REFUSALS["AuthorizationHeaderMalformed"]
_REFUSALS["InsufficientStorage"] = _REFUSALS["XMinioStorageFull"]
_REFUSALS["XMinioAdminBucketQuotaExceeded"] = _REFUSALS["QuotaExceeded"]
_AWAY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "XMinioServerNotInit"}
_SERVER_ERROR = 500
_FULL = 507
_FOREIGN = (MinioException, http.HTTPError, ParseError, ValueError, TypeError, AttributeError)


class ObjectMissing(Exception):
    """There is no object under this key; never leaves the adapter."""


class BucketMissing(ObjectMissing):
    """There is no bucket of this name; never leaves the adapter."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what minio-py and urllib3 raise into ours.

    Raises:
        ObjectMissing: no such key.
        BucketMissing: no such bucket.
        StorageUnavailable: the store is away; trying again may help.
        StorageFailed: it refuses, or is no S3 server.
    """
    try:
        yield
    except D3Error:
        raise
    except _FOREIGN as error:
        raise _translation(error) from error


def _translation(error: Exception) -> Exception:
    if isinstance(error, http.HTTPError):
        return _unreachable(error)
    return _refusal(*_facts(error))


def _refusal(status: int | None, code: str | None) -> Exception:  # noqa: PLR0911  one each
    if code in ("NoSuchKey", "NoSuchObject"):
        return ObjectMissing()
    if code == "NoSuchBucket":
        return BucketMissing()
    if status == _FULL:
        code = "XMinioStorageFull"
    if code in _REFUSALS:
        problem, remedy = _REFUSALS[code]
        return StorageFailed(f"The S3 store {problem}", remedy)
    if status in (401, 403) or code in ("AccessDenied", "AllAccessDisabled", "Forbidden"):
        return StorageFailed(
            "The S3 store forbids this.",
            f"{_KEYS}. The key must be allowed to list and read the bucket MINIO_BUCKET_NAME and, "
            "to store models, to write and delete.",
        )
    if code in _AWAY or (status is not None and status >= _SERVER_ERROR):
        return StorageUnavailable(
            f"The S3 store reports an internal error ({code or status}).",
            "Try again in a moment. If it happens again, check the log of the server at "
            "MINIO_ENDPOINT.",
        )
    if status is None and code is None:
        return StorageFailed(
            "The server at MINIO_ENDPOINT is not an S3 server.",
            "Set it to the address of the S3 API, not of a web page or console.",
        )
    return StorageFailed(
        f"The S3 store rejects the request ({code or f'status {status}'}).",
        "Check MINIO_ENDPOINT, MINIO_SECURE and MINIO_BUCKET_NAME.",
    )


def _facts(error: Exception) -> tuple[int | None, str | None]:
    """The HTTP status and the S3 error code, as far as they are known.

    Servers that send errors as ``text/xml`` get an InvalidResponseError out of minio-py, with the
    body's text in it.
    """
    if isinstance(error, S3Error):
        return error.response.status if error.response else None, error.code
    if isinstance(error, ServerError):
        return error.status_code, None
    if isinstance(error, InvalidResponseError):
        found = _CODE.search(str(error._body or ""))  # noqa: SLF001  nothing public tells it
        status = error._code  # noqa: SLF001
        if found:
            return status, found[1]
        return status if status >= _SERVER_ERROR or status in (401, 403) else None, None
    return None, None


def _unreachable(error: http.HTTPError) -> StorageFailed:
    cause: BaseException = error
    if isinstance(error, http.MaxRetryError) and error.reason is not None:
        cause = error.reason
    if isinstance(cause, http.SSLError):
        return StorageFailed(
            "A trusted TLS connection to the S3 store is not possible.",
            "Check that MINIO_SECURE fits the server at MINIO_ENDPOINT (https or http), and check "
            "its certificate. Set SSL_CERT_FILE to trust your own authorities.",
        )
    if isinstance(cause, http.NameResolutionError):
        why, hint = "the host name is unknown", "Check the host name in MINIO_ENDPOINT."
    elif isinstance(cause, (http.ConnectTimeoutError, http.ReadTimeoutError)) and not isinstance(
        cause, http.NewConnectionError
    ):
        why, hint = "it does not respond in time", "Check MINIO_ENDPOINT and the network."
    elif isinstance(cause, http.NewConnectionError):
        why = "the connection is refused"
        hint = "Check MINIO_ENDPOINT and that its server is running."
    else:
        why, hint = "the connection broke", "Try again in a moment, and check MINIO_ENDPOINT."
    return StorageUnavailable(f"The S3 store cannot be reached: {why}.", hint)
