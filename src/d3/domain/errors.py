"""Every error D3 raises on purpose: one tree, each with a stable ``code`` and a way out.

``str(error)`` is a sentence for people that says what was wrong and what to do about it. Adapters
translate foreign exceptions into these at their edge; nothing foreign leaks through a port.
"""

from __future__ import annotations

from typing import ClassVar


class D3Error(Exception):
    """Something D3 could not do.

    Attributes:
        code: a stable word for programs.
        problem: what was wrong, as a sentence.
        remedy: what to do about it, as a sentence; empty where nothing can be done.
    """

    code: ClassVar[str] = "error"

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()


def shown(value: object, most: int = 80) -> str:
    """What somebody handed in, short enough for a sentence."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  a foreign repr, or a whole number too long to be written
        text = f"of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


class SettingsInvalid(D3Error):
    """One or more settings cannot be used; the message names all of them."""

    code = "settings_invalid"


class RequestInvalid(D3Error):
    """The question itself makes no sense, whatever the image."""

    code = "invalid_request"


class ThresholdInvalid(RequestInvalid):
    """A threshold that is not a number between 0 and 1."""

    code = "invalid_threshold"


class ViewsInvalid(RequestInvalid):
    """A number of views outside 1 to 16, or more than the model has permutations."""

    code = "invalid_views"


class FormInvalid(RequestInvalid):
    """A form that cannot be read, or that says one thing twice."""

    code = "invalid_form"


class FileMissing(FormInvalid):
    """A form without the file it should bring."""

    code = "file_missing"


class LinkInvalid(RequestInvalid):
    """A link that is not fetched, whoever asks."""

    code = "invalid_link"


class LinkUnavailable(RequestInvalid):
    """A link whose server is not public, does not answer, or has no such file."""

    code = "link_unavailable"


class LinksOff(RequestInvalid):
    """The service fetches no links."""

    code = "links_off"


class FormNotMultipart(RequestInvalid):
    """A body that is no multipart form."""

    code = "not_multipart"


class EncodingUnsupported(RequestInvalid):
    """A body that is compressed or otherwise encoded as a whole."""

    code = "encoding_unsupported"


class FormTooLarge(RequestInvalid):
    """A body, or a number of parts, beyond the limit."""

    code = "body_too_large"


class HostInvalid(RequestInvalid):
    """A request that says not once which host it is for."""

    code = "invalid_host"


class FormTooSlow(RequestInvalid):
    """A body that did not arrive in the time it has."""

    code = "body_too_slow"


class CursorInvalid(RequestInvalid):
    """A cursor that was made up, changed, or handed out for another question."""

    code = "invalid_cursor"


class IdempotencyKeyInvalid(RequestInvalid):
    """An idempotency key that is empty, too long, or holds other than printable ASCII."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(RequestInvalid):
    """The idempotency key stands for a request with another body."""

    code = "idempotency_key_reused"


class ScanMismatch(RequestInvalid):
    """A scan is to go on with another source, model, threshold or number of views."""

    code = "scan_mismatch"


class SourceRefused(RequestInvalid):
    """Callers of the service may not have this source scanned."""

    code = "source_refused"


class ScanFailed(D3Error):
    """Nothing that works on a scan can go on with it."""

    code = "scan_failed"


class ScanIncomplete(ScanFailed):
    """Everything that could be listed is judged, and not everything could be listed."""

    code = "scan_incomplete"


class ScanNotFound(D3Error):
    """There is no scan of that id."""

    code = "scan_not_found"


class RequestInFlight(D3Error):
    """The same request, by its idempotency key, is being answered right now.

    Attributes:
        retry_after: seconds after which it is surely over.
    """

    code = "request_in_flight"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ReservationLost(D3Error):
    """Another request took over the idempotency key; nothing of this one was kept."""

    code = "reservation_lost"


class ResultNotFound(D3Error):
    """No result of that id is in the history, or it belongs to somebody else."""

    code = "result_not_found"


class ImageError(D3Error):
    """This image cannot be judged; others are unaffected."""

    code = "image_error"


class ImageElsewhere(ImageError):
    """A link to a file outside of the folder that callers may have scanned."""

    code = "image_elsewhere"


class ImageNotFound(ImageError):
    """There is no file to read at the given place."""

    code = "image_not_found"


class ImageUnsupported(ImageError):
    """The bytes are not an image in a format that D3 reads."""

    code = "not_an_image"


class ImageFormatUnsupported(ImageUnsupported):
    """The bytes are an image, of a format or kind that D3 does not read."""

    code = "unsupported_image"


class ImageEmpty(ImageUnsupported):
    """There are no bytes at all."""

    code = "empty_file"


class ImageDamaged(ImageError):
    """The file begins as an image and cannot be decoded to its end."""

    code = "damaged_image"


class ImageUnreadable(ImageError):
    """The store answers, but does not give this image."""

    code = "image_unreadable"


class FolderUnreadable(ImageError):
    """A folder cannot be listed, so whether there are images in it is not known."""

    code = "folder_unreadable"


class DecodingInterrupted(ImageError):
    """What decoded the image was ended from outside, twice; the image may be sound."""

    code = "decoding_interrupted"


class DecoderUnavailable(D3Error):
    """Nothing can be decoded now; no image is to blame."""

    code = "decoder_unavailable"


class ImageTooLarge(ImageError):
    """Decoding would cost more than the limits allow: bytes, pixels, side or JPEG scans."""

    code = "image_too_large"


class ModelError(D3Error):
    """Something is wrong with a model."""

    code = "model_error"


class ModelNotFound(ModelError):
    """No model of that name (and version) is in the registry."""

    code = "model_not_found"


class ModelNotLoaded(ModelError):
    """No model is loaded, so nothing can be judged."""

    code = "model_not_loaded"


class ModelForked(ModelError):
    """The model was loaded before this process was forked, and its threads stayed behind."""

    code = "model_forked"


class LoadInProgress(ModelError):
    """A model is being loaded; another load has to wait.

    Attributes:
        retry_after: seconds after which it may be over.
    """

    code = "load_in_progress"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ModelNameInvalid(ModelError):
    """A name that cannot be a model's name."""

    code = "invalid_model_name"


class ModelProtected(ModelError):
    """The model belongs to the package and can be neither replaced nor removed."""

    code = "model_protected"


class ModelDamaged(ModelError):
    """Stored files are missing or do not match their recorded SHA-256; they are never loaded."""

    code = "model_damaged"


class CheckpointInvalid(ModelError):
    """A file is not the checkpoint it is said to be: format, names, shapes or values."""

    code = "invalid_checkpoint"


class BundleInvalid(ModelError):
    """A file is no model in one file, is damaged, or is not what its manifest says."""

    code = "invalid_bundle"


class SourceUnavailable(D3Error):
    """What was to be fetched is not there, or the connection to it broke again and again."""

    code = "source_unavailable"


class SourceMismatch(D3Error):
    """A source gave other bytes than the ones that are known; nothing of them is kept."""

    code = "source_mismatch"


class ScoreUndefined(ModelError):
    """The network's answer to this image is not a finite number."""

    code = "score_undefined"


class StorageFailed(D3Error):
    """A store cannot be read or written: no permission, no space, not there."""

    code = "storage_failed"


class StorageUnavailable(StorageFailed):
    """The store is away or busy; nothing was kept, and trying again may help."""

    code = "storage_unavailable"


class CommitInDoubt(StorageFailed):
    """The connection broke while committing: whether the entries were kept is not known."""

    code = "commit_in_doubt"


class EntryRefused(StorageFailed):
    """The store cannot hold this entry; others are unaffected."""

    code = "entry_refused"


class HistoryOverloaded(StorageFailed):
    """More entries wait to be written than the bound allows; try again in a moment."""

    code = "history_overloaded"


class SchemaMismatch(StorageFailed):
    """The database's tables are not those this version of D3 works with."""

    code = "schema_mismatch"


class AccountError(D3Error):
    """Something about users or keys cannot be done."""

    code = "account_error"


class AccountInvalid(AccountError, RequestInvalid):
    """A username, an email address, a key's name or a scope that cannot be used."""

    code = "invalid_account"


class UserExists(AccountError):
    """The username or the email address belongs to another account."""

    code = "user_exists"


class UserNotFound(AccountError):
    """There is no such account."""

    code = "user_not_found"


class KeyNotFound(AccountError):
    """There is no API key of that id."""

    code = "key_not_found"


class KeyNotLive(AccountError):
    """The API key has expired or was revoked, so it cannot be rotated."""

    code = "key_not_live"


class KeyLimitReached(AccountError):
    """The account has as many live keys as may be."""

    code = "key_limit_reached"


class AccessRefused(D3Error):
    """The API key does not open the door.

    The kinds are for the log: code and sentence are the same for all, so that whoever tries keys
    learns nothing.

    Attributes:
        reason: a stable word for the log, never for the answer.
    """

    code = "access_refused"
    reason: str = "refused"

    def __init__(
        self,
        problem: str = "This API key is not accepted.",
        remedy: str = "Send a valid one as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    ) -> None:
        super().__init__(problem, remedy)


class KeyMissing(AccessRefused):
    """There is no key, and the caller is not one who needs none."""

    code = "key_missing"
    reason = "missing"

    def __init__(self) -> None:
        super().__init__("This request needs an API key.")


class KeysMissing(D3Error):
    """The service would be reached from elsewhere, and nobody has a key."""

    code = "keys_missing"


class SecretWeak(D3Error):
    """The SECRET_KEY is one that everybody knows."""

    code = "secret_weak"


class KeyInvalid(AccessRefused):
    """No such key was ever handed out, or it was mistyped."""

    reason = "invalid"


class KeyExpired(AccessRefused):
    """The key's time is over."""

    reason = "expired"


class KeyRevoked(AccessRefused):
    """The key was taken back."""

    reason = "revoked"


class UserDisabled(AccessRefused):
    """The key is good; its owner's account is closed."""

    reason = "disabled"


class SessionEnded(AccessRefused):
    """Somebody signed in before, and that holds no longer.

    Unlike a key's sender they have shown the key, so they are told why.

    Attributes:
        reason: expired, revoked or disabled, as the key is; or over.
    """

    code = "session_ended"
    _WHY: ClassVar[dict[str, str]] = {
        "expired": "The API key you signed in with has expired.",
        "revoked": "The API key you signed in with was revoked.",
        "disabled": "The account you signed in to was disabled.",
    }

    def __init__(self, reason: str) -> None:
        super().__init__(self._WHY.get(reason, "Your session has ended."), "Sign in again.")
        self.reason = reason


class AccessForbidden(D3Error):
    """The key is good, and does not allow this."""

    code = "forbidden"


class HostRefused(AccessForbidden):
    """The service was called by a name that it does not go by."""

    code = "host_refused"


class RateLimited(D3Error):
    """Somebody asked too often.

    Attributes:
        retry_after: seconds after which there is room again.
        limit: requests of a window.
    """

    code = "rate_limited"

    def __init__(self, problem: str, remedy: str, retry_after: float, limit: int = 0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after
        self.limit = limit


class CrossSite(D3Error):
    """A page of another site had a browser send something that changes something."""

    code = "cross_site"

    def __init__(self) -> None:
        super().__init__(
            "This request came from a page of another site and had no API key.",
            "Send it from the console, or with an API key.",
        )


class DeviceUnavailable(D3Error):
    """The device or precision that was asked for is not on this machine."""

    code = "device_unavailable"


class EngineUnavailable(D3Error):
    """The engine cannot run this model here; another one may."""

    code = "engine_unavailable"


class EngineMissing(EngineUnavailable):
    """The engine asked for is not installed."""


class ExplanationUnavailable(D3Error):
    """What runs the model gives scores and cannot say where they come from."""

    code = "explanation_unavailable"


class DetectorFailed(D3Error):
    """The detector broke down on this image or batch; others are unaffected."""

    code = "detector_failed"


class DeviceOutOfMemory(D3Error):
    """The device has no room for the model or for this batch."""

    code = "out_of_memory"


class Overloaded(D3Error):
    """More images wait than may, or than can be judged in time; nothing was done for this one.

    Attributes:
        retry_after: seconds after which there should be room.
    """

    code = "overloaded"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ResourcesExhausted(Overloaded):
    """The process may open no more files, connections or processes, or has no memory for one."""

    code = "resources_exhausted"


class ServiceStopping(Overloaded):
    """The service was told to stop before this was done."""

    code = "service_stopping"


class DeadlineExceeded(Overloaded):
    """The image's time was over before the detector came to it; it cost no forward pass."""

    code = "deadline_exceeded"
