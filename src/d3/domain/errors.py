"""Every error that D3 raises on purpose: one tree, each with a stable ``code`` and a remedy.

``str(error)`` says what is wrong and what to do about it. Adapters translate exceptions of other
libraries into these, so no other exceptions pass through a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class D3Error(Exception):
    """Something D3 could not do.

    Do what the message says.

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
    """One or more settings are not valid; the message names all of them.

    Correct the variables in the environment or in ``.env``, then start again.
    """

    code = "settings_invalid"


class RequestInvalid(D3Error):
    """The request itself makes no sense, whatever the image.

    Read the sentence in ``error``, and compare the request with the call's description.
    """

    code = "invalid_request"


class ThresholdInvalid(RequestInvalid):
    """A threshold that is not a number between 0 and 1.

    Use a number such as 0.5, or leave it out to use the model's threshold.
    """

    code = "invalid_threshold"


class ViewsInvalid(RequestInvalid):
    """A number of views outside 1 to 16, or more than the model has permutations.

    Use a number from 1 to 16, or leave it out to use 1.
    """

    code = "invalid_views"


class LabelInvalid(RequestInvalid):
    """A label in a list that is none, or with texts that are too long or hold control characters.

    Use ``real``, ``generated`` or ``unknown``, with texts within the limits that the message names.
    """

    code = "invalid_label"


class LabelsRefused(RequestInvalid):
    """A table of labels that cannot be read or has wrong lines; none of it was kept.

    Correct the lines that the message names and send the whole table again.

    Attributes:
        mistakes: the first wrong lines, a sentence for each.
    """

    code = "labels_refused"

    def __init__(self, problem: str, remedy: str = "", mistakes: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.mistakes = tuple(mistakes)


class FormInvalid(RequestInvalid):
    """A form that cannot be read, or that sends a field twice.

    Send each field once, as the call's description says.
    """

    code = "invalid_form"


class FileMissing(FormInvalid):
    """A form without the required file.

    Add the file to the form, in the field that the message names.
    """

    code = "file_missing"


class LinkInvalid(RequestInvalid):
    """A link that is never fetched.

    Use an http or https address of a public server, without a user name.
    """

    code = "invalid_link"


class LinkUnavailable(RequestInvalid):
    """A link whose server is not public, does not respond, or has no such file.

    Open the link yourself to see whether it works, or send the file instead.
    """

    code = "link_unavailable"


class LinksOff(RequestInvalid):
    """The service does not fetch links.

    Send the file itself, or have the operator set ``D3_FETCH_LINKS``.
    """

    code = "links_off"


class FormNotMultipart(RequestInvalid):
    """A body that is not a multipart form.

    Send ``multipart/form-data``, or another kind of body that the call takes.
    """

    code = "not_multipart"


class EncodingUnsupported(RequestInvalid):
    """A body that is compressed or otherwise encoded as a whole.

    Send it without a ``Content-Encoding``.
    """

    code = "encoding_unsupported"


class FormTooLarge(RequestInvalid):
    """A body, or a number of parts, beyond the limit.

    Send fewer or smaller files at once.
    """

    code = "body_too_large"


class HostInvalid(RequestInvalid):
    """A request without exactly one Host header.

    Send exactly one Host header.
    """

    code = "invalid_host"


class FormTooSlow(RequestInvalid):
    """A body that did not arrive in time.

    Send less at once, or use a faster connection. The operator can raise ``D3_UPLOAD_SECONDS``.
    """

    code = "body_too_slow"


class CursorInvalid(RequestInvalid):
    """A cursor that was invented, changed, or issued for another request.

    Begin again without a cursor, and keep the other parameters the same from page to page.
    """

    code = "invalid_cursor"


class IdempotencyKeyInvalid(RequestInvalid):
    """An idempotency key that is empty, too long, or not printable ASCII.

    Use at most 255 printable ASCII characters, such as a UUID.
    """

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(RequestInvalid):
    """The idempotency key was used for a request with another body.

    Use a new key for every new request.
    """

    code = "idempotency_key_reused"


class ScanMismatch(RequestInvalid):
    """A scan cannot go on with another source, model, threshold or number of views.

    Repeat the options that the scan began with, or begin a new scan under another id.
    """

    code = "scan_mismatch"


class ScanRunning(RequestInvalid):
    """A scan is not over, so it cannot be deleted.

    Cancel it or wait for its end, then delete it.
    """

    code = "scan_running"


class SourceRefused(RequestInvalid):
    """Callers of the service may not scan this source.

    Use a source that the operator allows, or ask for it to be allowed.
    """

    code = "source_refused"


class ScanFailed(D3Error):
    """No worker can go on with a scan.

    Put right what the message names, and start the scan again: it continues where it was.
    """

    code = "scan_failed"


class ScanIncomplete(ScanFailed):
    """All listed images are judged, but not everything could be listed.

    Make the places that the message names readable and start the scan again.
    """

    code = "scan_incomplete"


class ScanNotFound(D3Error):
    """There is no scan with this id.

    List the scans to see their ids.
    """

    code = "scan_not_found"


class JobNotFound(D3Error):
    """There is no job with this id, or it belongs to another user.

    List your jobs. A job is forgotten after ``D3_JOB_DAYS``; its results stay in the history.
    """

    code = "job_not_found"


class SpoolFull(RetryLater):
    """There is no room in the spool for the files of a job; nothing of it was kept.

    Try again later. The operator can raise ``D3_SPOOL_BYTES``.
    """

    code = "spool_full"


class RequestInFlight(RetryLater):
    """The same request, by its idempotency key, is being answered right now.

    Wait for the time in ``Retry-After`` and send the same request again.
    """

    code = "request_in_flight"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ReservationLost(D3Error):
    """Another request took over the idempotency key; nothing of this one was stored.

    Send the same request again with the same key to get the stored answer.
    """

    code = "reservation_lost"


class ResultNotFound(D3Error):
    """No result with this id is in the history, or it belongs to another user.

    List the history to see which results there are.
    """

    code = "result_not_found"


class ImageError(D3Error):
    """This image cannot be judged; others are unaffected.

    Look at the file with another program, or send another one.
    """

    code = "image_error"


class ImageElsewhere(ImageError):
    """A link to a file outside the folder that callers may scan.

    Put the file itself into the folder.
    """

    code = "image_elsewhere"


class ImageNotFound(ImageError):
    """There is no file at the given path.

    Correct the path.
    """

    code = "image_not_found"


class ImageUnsupported(ImageError):
    """The bytes are not an image in a format that D3 reads.

    Send an image in one of the formats that D3 reads.
    """

    code = "not_an_image"


class ImageFormatUnsupported(ImageUnsupported):
    """The bytes are an image in a format that D3 does not read.

    Convert it to a format that D3 reads, without loss, or install the extra that the message names.
    """

    code = "unsupported_image"


class ImageEmpty(ImageUnsupported):
    """There are no bytes at all.

    Check how the file was made or sent, and send it again.
    """

    code = "empty_file"


class ImageDamaged(ImageError):
    """The file starts as an image but cannot be decoded completely.

    Get the file from its source again.
    """

    code = "damaged_image"


class ImageUnreadable(ImageError):
    """The store responds, but does not return this image.

    Check the permissions of the object, then try again.
    """

    code = "image_unreadable"


class FolderUnreadable(ImageError):
    """A folder cannot be listed, so it may contain unknown images.

    Check the permissions of the folder, then try again.
    """

    code = "folder_unreadable"


class DecodingInterrupted(ImageError):
    """The process that decoded the image was killed twice; the image may be intact.

    Try again. If it happens each time, the machine is short of memory.
    """

    code = "decoding_interrupted"


class VideoInvalid(ImageError):
    """The file is no video that can be judged: no pictures in it, damaged, or of another kind.

    Send a video in one of the kinds that D3 reads, or single frames as images.
    """

    code = "video_invalid"


class VideoUnavailable(ImageError):
    """Videos cannot be judged here: the package that decodes them is not installed.

    Install the extra ``video`` where D3 runs, or send single frames as images.
    """

    code = "video_unavailable"


class DecoderUnavailable(D3Error):
    """No image can be decoded at the moment; the cause is not the image.

    Try again. If it lasts, the log of the service names the cause.
    """

    code = "decoder_unavailable"


class ImageTooLarge(ImageError):
    """The image exceeds a limit: bytes, pixels, side or JPEG scans.

    Send a smaller version. The operator can raise the limit that the message names.
    """

    code = "image_too_large"


class VideoTooLarge(ImageTooLarge):
    """A video exceeds a limit: bytes, pixels or side.

    Send a shorter or smaller version. The operator can raise the limit that the message names.
    """

    code = "video_too_large"


class ModelError(D3Error):
    """Something is wrong with a model.

    The message says what is wrong with which model.
    """

    code = "model_error"


class ModelNotFound(ModelError):
    """No model with this name (and version) is in the registry.

    List the models, or add the missing one.
    """

    code = "model_not_found"


class ModelNotLoaded(ModelError):
    """No model is loaded, so no image can be judged.

    Load a model with ``POST /api/model/load``, or wait until the service has started.
    """

    code = "model_not_loaded"


class ModelNotServed(ModelNotLoaded):
    """A request names a model that this service does not load for it.

    Name the model in use, or one of the service's panel.
    """

    code = "model_not_served"


class ForkUnsupported(ModelError):
    """D3 was at work before this process was forked, so threads that it needs are missing here.

    Make the first detection after the fork, or start processes with ``spawn``.
    """

    code = "fork_unsupported"


class LoadInProgress(ModelError, RetryLater):
    """A model is being loaded; another load has to wait.

    Try again when the other model is loaded.
    """

    code = "load_in_progress"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ModelNameInvalid(ModelError):
    """A name that cannot be a model's name.

    Use letters, digits, ``.``, ``_`` and ``-``; the first is a letter or a digit.
    """

    code = "invalid_model_name"


class ModelProtected(ModelError):
    """The model ships with D3 and can be neither replaced nor removed.

    Give your model another name.
    """

    code = "model_protected"


class ModelDamaged(ModelError):
    """Stored files are missing or do not match their recorded SHA-256, so they are not loaded.

    Run ``d3 models verify``, and add the model again.
    """

    code = "model_damaged"


class CheckpointInvalid(ModelError):
    """A file is not the expected checkpoint: its format, names, shapes or values differ.

    Check that it is the right file, that it is whole, and that the architecture is named right.
    """

    code = "invalid_checkpoint"


class ProjectionMissing(CheckpointInvalid):
    """An encoder may fit a head, but was stored without CLIP's projection, which the head needs.

    Export the encoder again together with its projection.
    """


class ArchitectureUnavailable(ModelError):
    """A model's architecture is not installed, cannot be imported, or is there twice.

    Install the package that brings the architecture where D3 runs.
    """

    code = "architecture_unavailable"


class ArchitectureUnsuitable(ModelError):
    """What was asked for does not work with models of this architecture.

    Use a model of another architecture, or leave the option out.
    """

    code = "architecture_unsuitable"


class PanelIncomplete(ModelError):
    """A member of a panel is missing where every member is needed.

    Add or load the member that the message names, or leave it out of the panel.
    """

    code = "panel_incomplete"


class BundleInvalid(ModelError):
    """A file is not a model bundle, is damaged, or does not match its manifest.

    Get the bundle from its source again.
    """

    code = "invalid_bundle"


class WebhookInvalid(RequestInvalid):
    """A webhook whose address, events or name cannot be used.

    Correct the address, the events or the name; the message says which.
    """

    code = "invalid_webhook"


class WebhookNotFound(D3Error):
    """There is no webhook of this id for this caller.

    List your webhooks to see their ids.
    """

    code = "webhook_not_found"


class DeliveryNotFound(D3Error):
    """There is no delivery of this id for this caller.

    List the deliveries to see their ids. Old ones are forgotten.
    """

    code = "delivery_not_found"


class WebhookLimitReached(D3Error):
    """The user has as many webhooks as one may have.

    Remove a webhook that is no longer needed.
    """

    code = "webhook_limit_reached"


class EvidenceInvalid(D3Error):
    """A file is not a bundle of evidence, or is not as it was signed.

    Ask for the bundle again where it came from, and do not rely on this one.
    """

    code = "invalid_evidence"


class EvidenceContradictory(EvidenceInvalid):
    """A case holds a verdict or a number that does not follow from the rest of it.

    Do not rely on it, and ask for the bundle again where it came from.
    """

    code = "contradictory_evidence"


class EvidenceTooNew(D3Error):
    """A bundle of evidence has a format that a later version of D3 writes.

    Update D3, then read it again.
    """

    code = "evidence_too_new"


class SigningKeyMissing(D3Error):
    """There is no key to sign evidence with.

    Make one with ``d3 keys sign-init``, or set ``D3_SIGNING_KEY``.
    """

    code = "signing_key_missing"


class SigningKeyInvalid(D3Error):
    """A file does not hold an Ed25519 key that can be used.

    Correct the file, or make a new key with ``d3 keys sign-init``.
    """

    code = "invalid_signing_key"


class ReplayImpossible(D3Error):
    """A case cannot be scored again here: its image or its model is another one.

    Use the image and the model that the case names.
    """

    code = "replay_impossible"


class QuantizationFailed(ModelError):
    """No int8 form of the model could be made, or none is close enough to fp32.

    Use the model in fp32 or bf16.
    """

    code = "quantization_failed"


class SourceUnavailable(D3Error):
    """A download was not found, or its connection broke repeatedly.

    Check the address and the connection, then try again: what has arrived is kept.
    """

    code = "source_unavailable"


class SourceMismatch(D3Error):
    """A source sent other bytes than expected; none of them are stored.

    Do not use this source. Get the file elsewhere.
    """

    code = "source_mismatch"


class ScoreUndefined(ModelError):
    """The network's output for this image is not a finite number.

    Use fp32 (``D3_PRECISION=fp32``). If it happens there too, the model is not usable.
    """

    code = "score_undefined"


class StorageFailed(D3Error):
    """A store cannot be read or written: no permission, no space, or not found.

    Check permissions and free space of the store; the message names it.
    """

    code = "storage_failed"


class StorageUnavailable(StorageFailed):
    """The store is unavailable or busy; nothing was stored.

    Try again. If it lasts, check whether the server of the store runs and can be reached.
    """

    code = "storage_unavailable"


class CommitInDoubt(StorageFailed):
    """The connection broke during a commit, so the entries may or may not be stored.

    Send the request again with the same ``Idempotency-Key``, or look into the history first.
    """

    code = "commit_in_doubt"


class EntryRefused(StorageFailed):
    """The store cannot store this entry; others are unaffected.

    Report it with the request_id; the log names the cause.
    """

    code = "entry_refused"


class HistoryOverloaded(StorageFailed):
    """Too many entries are waiting to be written.

    Try again in a moment. If it lasts, the database is too slow for the traffic.
    """

    code = "history_overloaded"


class SchemaMismatch(StorageFailed):
    """The tables of the database do not fit this version of D3.

    Run ``d3 db upgrade``, or use the version of D3 that the database was made with.
    """

    code = "schema_mismatch"


class AccountError(D3Error):
    """An operation on users or keys is not possible.

    The message says what is wrong with which account.
    """

    code = "account_error"


class AccountInvalid(AccountError, RequestInvalid):
    """A username, email address, key name or scope that is not valid.

    Correct the field that the message names.
    """

    code = "invalid_account"


class UserExists(AccountError):
    """The username or the email address belongs to another account.

    Choose another name or address.
    """

    code = "user_exists"


class UserNotFound(AccountError):
    """There is no account with this name.

    List the users with ``d3 users list``.
    """

    code = "user_not_found"


class UserBusy(AccountError):
    """An account has jobs that are not over, so it cannot be deleted.

    Wait until they are over, or end them with ``d3 jobs cancel``.
    """

    code = "user_busy"


class KeyNotFound(AccountError):
    """There is no API key with this id.

    List the keys with ``d3 keys list``.
    """

    code = "key_not_found"


class KeyNotLive(AccountError):
    """The API key has expired or was revoked, so it cannot be rotated.

    Create a new key.
    """

    code = "key_not_live"


class KeyLimitReached(AccountError):
    """The account already has the maximum number of live keys.

    Revoke a key first.
    """

    code = "key_limit_reached"


class AccessRefused(D3Error):
    """The API key is not accepted.

    Send a valid key as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

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
    """No key was sent, and this caller needs one.

    Send a key as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.
    """

    code = "key_missing"
    reason = "missing"

    def __init__(self) -> None:
        super().__init__("This request needs an API key.")


class NotSignedIn(AccessRefused):
    """The application that D3 is part of knows of no user who asks.

    Sign in to the application that D3 is part of.
    """

    code = "not_signed_in"
    reason = "missing"

    def __init__(self) -> None:
        super().__init__("You are not signed in.", "Sign in to the application that D3 is part of.")


class HostFailed(D3Error):
    """The application that D3 is part of failed to say who asks.

    Try again. The log of the application names the cause.
    """

    code = "host_failed"

    def __init__(self) -> None:
        super().__init__(
            "The application that D3 is part of could not say who you are.",
            "Its log says why.",
        )


class KeysMissing(D3Error):
    """The service would be reachable from other machines, and there is no key.

    Run ``d3 keys init`` before you start the service.
    """

    code = "keys_missing"


class SecretWeak(D3Error):
    """The SECRET_KEY is publicly known.

    Set ``SECRET_KEY`` to a random text of your own.
    """

    code = "secret_weak"


class KeyInvalid(AccessRefused):
    """There is no such key, or it was mistyped.

    Copy the whole key again, or create a new one.
    """

    reason = "invalid"


class KeyExpired(AccessRefused):
    """The key has expired.

    Create a new key.
    """

    reason = "expired"


class KeyRevoked(AccessRefused):
    """The key was revoked.

    Create a new key.
    """

    reason = "revoked"


class UserDisabled(AccessRefused):
    """The key's owner is disabled.

    Ask an administrator.
    """

    reason = "disabled"


class UserGone(EntryRefused, AccessRefused):
    """The user was deleted while the request was being answered; nothing was stored.

    Ask an administrator.
    """

    code = AccessRefused.code
    reason = "deleted"


class SessionEnded(AccessRefused):
    """The caller was signed in, and no longer is.

    Sign in again.

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
    """This needs a key with more rights: the key does not allow it, or none was sent.

    Send a key with the scope that the message names, or ask an administrator for one.
    """

    code = "forbidden"


class HostRefused(AccessForbidden):
    """The service was called by an unknown host name.

    Use a name from ``D3_ALLOWED_HOSTS``.
    """

    code = "host_refused"


class RateLimited(RetryLater):
    """Somebody asked too often.

    Wait for the time in ``Retry-After``, then try again.

    Attributes:
        limit: requests of a window.
    """

    code = "rate_limited"

    def __init__(self, problem: str, remedy: str, retry_after: float, limit: int = 0) -> None:
        super().__init__(problem, remedy, retry_after)
        self.limit = limit


class CrossSite(D3Error):
    """A page of another site sent something that changes something.

    Send it from the console, or with an API key.
    """

    code = "cross_site"

    def __init__(self, remedy: str = "Send it from the console, or with an API key.") -> None:
        super().__init__("This request came from a page of another site.", remedy)


class DeviceUnavailable(D3Error):
    """The requested device or precision is not available on this machine.

    Run ``d3 doctor`` to see what there is, and correct ``CUDA_DEVICE`` or ``D3_PRECISION``.
    """

    code = "device_unavailable"


class EngineUnavailable(D3Error):
    """The engine cannot run this model on this machine; another engine may.

    Set ``D3_ENGINE=auto`` or ``torch``.
    """

    code = "engine_unavailable"


class EngineMissing(EngineUnavailable):
    """The requested engine is not installed.

    Install the extra ``openvino``, or set ``D3_ENGINE=torch``.
    """


class ExplanationUnavailable(D3Error):
    """The engine cannot draw heat maps.

    Use the engine torch and a model whose architecture explains its scores.
    """

    code = "explanation_unavailable"


class DetectorFailed(D3Error):
    """The detector failed on this image or batch; others are unaffected.

    Try again. If it happens with the same image each time, report it.
    """

    code = "detector_failed"


class DeviceOutOfMemory(D3Error):
    """The device does not have enough memory for the model or this batch.

    Lower ``D3_BATCH_SIZE``, or free memory of the device.
    """

    code = "out_of_memory"


class Overloaded(RetryLater):
    """More images wait than may, or than can be judged in time; nothing was done for this one.

    Wait for the time in ``Retry-After``, then try again.
    """

    code = "overloaded"

    def __init__(self, problem: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class ResourcesExhausted(Overloaded):
    """The process has run out of files, connections, processes or memory.

    Try again in a moment. The operator can raise the limits of the process.
    """

    code = "resources_exhausted"


class EngineAway(Overloaded):
    """The process that runs the model has ended; another one is being started.

    Try again in a moment.
    """

    code = "engine_away"


class ServiceStopping(Overloaded):
    """The service stopped before this was done.

    Try again when it runs again. Where there are several replicas, another one answers at once.
    """

    code = "service_stopping"


class DeadlineExceeded(Overloaded):
    """The image's deadline passed before its forward pass.

    Try again when less is waiting. The operator can raise ``D3_REQUEST_SECONDS``.
    """

    code = "deadline_exceeded"
