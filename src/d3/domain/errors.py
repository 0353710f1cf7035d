"""Every error that D3 raises on purpose: one tree, each with a stable ``code`` and a remedy.

``str(error)`` says what is wrong and what to do about it. Adapters translate exceptions of other
libraries into these, so no other exceptions pass through a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class D3Error(Exception):
    """Something D3 could not do.

    Attributes:
        code: a stable code for programs.
        problem: what is wrong, as a sentence.
        remedy: what to do about it, as a sentence; empty if nothing can be done.
    """

    code: ClassVar[str] = "error"

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whatever its constructor takes: worker processes send errors to each other."""
        return _restored, (type(self), self.problem, self.remedy), vars(self)

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()


def _restored(kind: type[D3Error], problem: str, remedy: str) -> D3Error:
    error = kind.__new__(kind)
    D3Error.__init__(error, problem, remedy)
    return error


def shown(value: object, most: int = 80) -> str:
    """A value, short enough for a sentence."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  a foreign repr, or a whole number too long to be written
        text = f"of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


class RetryLater(D3Error):
    """It may work after a while.

    Attributes:
        retry_after: seconds after which it should.
    """

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class SettingsInvalid(D3Error):
    """One or more settings are not valid; the message names all of them."""

    code = "settings_invalid"


class RequestInvalid(D3Error):
    """The request itself makes no sense, whatever the image."""

    code = "invalid_request"


class ThresholdInvalid(RequestInvalid):
    """A threshold that is not a number between 0 and 1."""

    code = "invalid_threshold"


class ViewsInvalid(RequestInvalid):
    """A number of views outside 1 to 16, or more than the model has permutations."""

    code = "invalid_views"


class LabelInvalid(RequestInvalid):
    """A label that is none, or whose texts are too long or hold control characters."""

    code = "invalid_label"


class LabelsRefused(RequestInvalid):
    """A table of labels that cannot be read or has wrong lines; none of it was kept.

    Attributes:
        mistakes: the first wrong lines, a sentence for each.
    """

    code = "labels_refused"

    def __init__(self, problem: str, remedy: str = "", mistakes: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.mistakes = tuple(mistakes)


class FormInvalid(RequestInvalid):
    """A form that cannot be read, or that sends a field twice."""

    code = "invalid_form"


class FileMissing(FormInvalid):
    """A form without the required file."""

    code = "file_missing"


class LinkInvalid(RequestInvalid):
    """A link that is never fetched."""

    code = "invalid_link"


class LinkUnavailable(RequestInvalid):
    """A link whose server is not public, does not respond, or has no such file."""

    code = "link_unavailable"


class LinksOff(RequestInvalid):
    """The service does not fetch links."""

    code = "links_off"


class FormNotMultipart(RequestInvalid):
    """A body that is not a multipart form."""

    code = "not_multipart"


class EncodingUnsupported(RequestInvalid):
    """A body that is compressed or otherwise encoded as a whole."""

    code = "encoding_unsupported"


class FormTooLarge(RequestInvalid):
    """A body, or a number of parts, beyond the limit."""

    code = "body_too_large"


class HostInvalid(RequestInvalid):
    """A request without exactly one Host header."""

    code = "invalid_host"


class FormTooSlow(RequestInvalid):
    """A body that did not arrive in time."""

    code = "body_too_slow"


class CursorInvalid(RequestInvalid):
    """A cursor that was invented, changed, or issued for another request."""

    code = "invalid_cursor"


class IdempotencyKeyInvalid(RequestInvalid):
    """An idempotency key that is empty, too long, or not printable ASCII."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(RequestInvalid):
    """The idempotency key was used for a request with another body."""

    code = "idempotency_key_reused"


class ScanMismatch(RequestInvalid):
    """A scan cannot go on with another source, model, threshold or number of views."""

    code = "scan_mismatch"


class ScanRunning(RequestInvalid):
    """A scan is not over, so it cannot be deleted."""

    code = "scan_running"


class SourceRefused(RequestInvalid):
    """Callers of the service may not scan this source."""

    code = "source_refused"


class ScanFailed(D3Error):
    """No worker can go on with a scan."""

    code = "scan_failed"


class ScanIncomplete(ScanFailed):
    """All listed images are judged, but not everything could be listed."""

    code = "scan_incomplete"


class ScanNotFound(D3Error):
    """There is no scan with this id."""

    code = "scan_not_found"


class JobNotFound(D3Error):
    """There is no job with this id, or it belongs to another user."""

    code = "job_not_found"


class SpoolFull(RetryLater):
    """There is no room in the spool for the files of a job; nothing of it was kept."""

    code = "spool_full"


class RequestInFlight(RetryLater):
    """The same request, by its idempotency key, is being answered right now."""

    code = "request_in_flight"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ReservationLost(D3Error):
    """Another request took over the idempotency key; nothing of this one was stored."""

    code = "reservation_lost"


class ResultNotFound(D3Error):
    """No result with this id is in the history, or it belongs to another user."""

    code = "result_not_found"


class ImageError(D3Error):
    """This image cannot be judged; others are unaffected."""

    code = "image_error"


class ImageElsewhere(ImageError):
    """A link to a file outside the folder that callers may scan."""

    code = "image_elsewhere"


class ImageNotFound(ImageError):
    """There is no file at the given path."""

    code = "image_not_found"


class ImageUnsupported(ImageError):
    """The bytes are not an image in a format that D3 reads."""

    code = "not_an_image"


class ImageFormatUnsupported(ImageUnsupported):
    """The bytes are an image in a format that D3 does not read."""

    code = "unsupported_image"


class ImageEmpty(ImageUnsupported):
    """There are no bytes at all."""

    code = "empty_file"


class ImageDamaged(ImageError):
    """The file starts as an image but cannot be decoded completely."""

    code = "damaged_image"


class ImageUnreadable(ImageError):
    """The store responds, but does not return this image."""

    code = "image_unreadable"


class FolderUnreadable(ImageError):
    """A folder cannot be listed, so it may contain unknown images."""

    code = "folder_unreadable"


class DecodingInterrupted(ImageError):
    """The process that decoded the image was killed twice; the image may be intact."""

    code = "decoding_interrupted"


class VideoInvalid(ImageError):
    """The file is no video that can be judged: no pictures in it, damaged, or of another kind."""

    code = "video_invalid"


class VideoUnavailable(ImageError):
    """Videos cannot be judged here: the package that decodes them is not installed."""

    code = "video_unavailable"


class DecoderUnavailable(D3Error):
    """No image can be decoded at the moment; the cause is not the image."""

    code = "decoder_unavailable"


class ImageTooLarge(ImageError):
    """The image exceeds a limit: bytes, pixels, side or JPEG scans."""

    code = "image_too_large"


class VideoTooLarge(ImageTooLarge):
    """A video exceeds a limit: bytes, pixels or side."""

    code = "video_too_large"


class ModelError(D3Error):
    """Something is wrong with a model."""

    code = "model_error"


class ModelNotFound(ModelError):
    """No model with this name (and version) is in the registry."""

    code = "model_not_found"


class ModelNotLoaded(ModelError):
    """No model is loaded, so no image can be judged."""

    code = "model_not_loaded"


class ModelNotServed(ModelNotLoaded):
    """A request names a model that this service does not load for it."""

    code = "model_not_served"


class ForkUnsupported(ModelError):
    """D3 was at work before this process was forked, so threads that it needs are missing here."""

    code = "fork_unsupported"


class LoadInProgress(ModelError, RetryLater):
    """A model is being loaded; another load has to wait."""

    code = "load_in_progress"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ModelNameInvalid(ModelError):
    """A name that cannot be a model's name."""

    code = "invalid_model_name"


class ModelProtected(ModelError):
    """The model ships with D3 and can be neither replaced nor removed."""

    code = "model_protected"


class ModelDamaged(ModelError):
    """Stored files are missing or do not match their recorded SHA-256, so they are not loaded."""

    code = "model_damaged"


class CheckpointInvalid(ModelError):
    """A file is not the expected checkpoint: its format, names, shapes or values differ."""

    code = "invalid_checkpoint"


class ProjectionMissing(CheckpointInvalid):
    """An encoder may fit a head, but was stored without CLIP's projection, which the head needs."""


class ArchitectureUnavailable(ModelError):
    """A model's architecture is not installed, cannot be imported, or is there twice."""

    code = "architecture_unavailable"


class ArchitectureUnsuitable(ModelError):
    """What was asked for does not work with models of this architecture."""

    code = "architecture_unsuitable"


class PanelIncomplete(ModelError):
    """A member of a panel is missing where every member is needed."""

    code = "panel_incomplete"


class BundleInvalid(ModelError):
    """A file is not a model bundle, is damaged, or does not match its manifest."""

    code = "invalid_bundle"


class WebhookInvalid(RequestInvalid):
    """A webhook whose address, events or name cannot be used."""

    code = "invalid_webhook"


class WebhookNotFound(D3Error):
    """There is no webhook of this id for this caller."""

    code = "webhook_not_found"


class DeliveryNotFound(D3Error):
    """There is no delivery of this id for this caller."""

    code = "delivery_not_found"


class WebhookLimitReached(D3Error):
    """The user has as many webhooks as one may have."""

    code = "webhook_limit_reached"


class EvidenceInvalid(D3Error):
    """A file is not a bundle of evidence, or is not as it was signed."""

    code = "invalid_evidence"


class EvidenceContradictory(EvidenceInvalid):
    """A case holds a verdict or a number that does not follow from the rest of it."""

    code = "contradictory_evidence"


class EvidenceTooNew(D3Error):
    """A bundle of evidence has a format that a later version of D3 writes."""

    code = "evidence_too_new"


class SigningKeyMissing(D3Error):
    """There is no key to sign evidence with."""

    code = "signing_key_missing"


class SigningKeyInvalid(D3Error):
    """A file does not hold an Ed25519 key that can be used."""

    code = "invalid_signing_key"


class ReplayImpossible(D3Error):
    """A case cannot be scored again here: its image or its model is another one."""

    code = "replay_impossible"


class QuantizationFailed(ModelError):
    """No int8 form of the model could be made, or none is close enough to fp32."""

    code = "quantization_failed"


class SourceUnavailable(D3Error):
    """A download was not found, or its connection broke repeatedly."""

    code = "source_unavailable"


class SourceMismatch(D3Error):
    """A source sent other bytes than expected; none of them are stored."""

    code = "source_mismatch"


class ScoreUndefined(ModelError):
    """The network's output for this image is not a finite number."""

    code = "score_undefined"


class StorageFailed(D3Error):
    """A store cannot be read or written: no permission, no space, or not found."""

    code = "storage_failed"


class StorageUnavailable(StorageFailed):
    """The store is unavailable or busy; nothing was stored. Trying again may help."""

    code = "storage_unavailable"


class CommitInDoubt(StorageFailed):
    """The connection broke during a commit, so the entries may or may not be stored."""

    code = "commit_in_doubt"


class EntryRefused(StorageFailed):
    """The store cannot store this entry; others are unaffected."""

    code = "entry_refused"


class HistoryOverloaded(StorageFailed):
    """Too many entries are waiting to be written; try again in a moment."""

    code = "history_overloaded"


class SchemaMismatch(StorageFailed):
    """The tables of the database do not fit this version of D3."""

    code = "schema_mismatch"


class AccountError(D3Error):
    """An operation on users or keys is not possible."""

    code = "account_error"


class AccountInvalid(AccountError, RequestInvalid):
    """A username, email address, key name or scope that is not valid."""

    code = "invalid_account"


class UserExists(AccountError):
    """The username or the email address belongs to another account."""

    code = "user_exists"


class UserNotFound(AccountError):
    """There is no account with this name."""

    code = "user_not_found"


class UserBusy(AccountError):
    """An account has jobs that are not over, so it cannot be deleted."""

    code = "user_busy"


class KeyNotFound(AccountError):
    """There is no API key with this id."""

    code = "key_not_found"


class KeyNotLive(AccountError):
    """The API key has expired or was revoked, so it cannot be rotated."""

    code = "key_not_live"


class KeyLimitReached(AccountError):
    """The account already has the maximum number of live keys."""

    code = "key_limit_reached"


class AccessRefused(D3Error):
    """The API key is not accepted.

    The kinds are for the log: code and sentence are the same for all, so that guessing keys reveals
    nothing.

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
    """No key was sent, and this caller needs one."""

    code = "key_missing"
    reason = "missing"

    def __init__(self) -> None:
        super().__init__("This request needs an API key.")


class NotSignedIn(AccessRefused):
    """The application that D3 is part of knows of no user who asks."""

    code = "not_signed_in"
    reason = "missing"

    def __init__(self) -> None:
        super().__init__("You are not signed in.", "Sign in to the application that D3 is part of.")


class HostFailed(D3Error):
    """The application that D3 is part of failed to say who asks."""

    code = "host_failed"

    def __init__(self) -> None:
        super().__init__(
            "The application that D3 is part of could not say who you are.",
            "Its log says why.",
        )


class KeysMissing(D3Error):
    """The service would be reachable from other machines, and there is no key."""

    code = "keys_missing"


class SecretWeak(D3Error):
    """The SECRET_KEY is publicly known."""

    code = "secret_weak"


class KeyInvalid(AccessRefused):
    """There is no such key, or it was mistyped."""

    reason = "invalid"


class KeyExpired(AccessRefused):
    """The key has expired."""

    reason = "expired"


class KeyRevoked(AccessRefused):
    """The key was revoked."""

    reason = "revoked"


class UserDisabled(AccessRefused):
    """The key's owner is disabled."""

    reason = "disabled"


class SessionEnded(AccessRefused):
    """The caller was signed in, and no longer is.

    They have shown the key, so the reason is given.

    Attributes:
        reason: expired, revoked or disabled, like the key; or over.
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
    """The key is valid, and does not allow this."""

    code = "forbidden"


class HostRefused(AccessForbidden):
    """The service was called by an unknown host name."""

    code = "host_refused"


class RateLimited(RetryLater):
    """Somebody asked too often.

    Attributes:
        limit: requests of a window.
    """

    code = "rate_limited"

    def __init__(self, problem: str, remedy: str, retry_after: float, limit: int = 0) -> None:
        super().__init__(problem, remedy, retry_after)
        self.limit = limit


class CrossSite(D3Error):
    """A page of another site sent something that changes something."""

    code = "cross_site"

    def __init__(self, remedy: str = "Send it from the console, or with an API key.") -> None:
        super().__init__("This request came from a page of another site.", remedy)


class DeviceUnavailable(D3Error):
    """The requested device or precision is not available on this machine."""

    code = "device_unavailable"


class EngineUnavailable(D3Error):
    """The engine cannot run this model on this machine; another engine may."""

    code = "engine_unavailable"


class EngineMissing(EngineUnavailable):
    """The requested engine is not installed."""


class ExplanationUnavailable(D3Error):
    """The engine cannot draw heat maps."""

    code = "explanation_unavailable"


class DetectorFailed(D3Error):
    """The detector failed on this image or batch; others are unaffected."""

    code = "detector_failed"


class DeviceOutOfMemory(D3Error):
    """The device does not have enough memory for the model or this batch."""

    code = "out_of_memory"


class Overloaded(RetryLater):
    """More images wait than may, or than can be judged in time; nothing was done for this one."""

    code = "overloaded"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ResourcesExhausted(Overloaded):
    """The process has run out of files, connections, processes or memory."""

    code = "resources_exhausted"


class EngineAway(Overloaded):
    """The process that runs the model has ended; another one is being started."""

    code = "engine_away"


class ServiceStopping(Overloaded):
    """The service stopped before this was done."""

    code = "service_stopping"


class DeadlineExceeded(Overloaded):
    """The image's deadline passed before its forward pass."""

    code = "deadline_exceeded"
