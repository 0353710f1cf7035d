"""Examples of responses and errors for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from d3.domain.clips import RULE

_SHA256 = "830b179dd6ae7bd8a6d92835ca1672e74e09d860466138211a0a084135ba69c3"
_MODEL_SHA256 = "8131f3b015ec86763d0baf5f7751e2a5ac69c34121733ef54017458846c981c3"
_MODEL = {"name": "d3-vit-l14", "version": 1, "sha256": _MODEL_SHA256}
_NUMBERS = {
    "prediction": 0.75,
    "is_fake": True,
    "confidence": 0.5,
    "processing_time": 0.123,
    "logit": 1.0986,
    "verdict": "fake",
    "threshold": 0.5,
    "views": 1,
    "spread": 0.0,
    "image_sha256": _SHA256,
    "model": _MODEL,
    "engine": "torch",
    "precision": "fp32",
    "cached": False,
    "logits": [1.0986],
    "device": "cpu",
    "libraries": "torch 2.15.0, pillow 13.0.0",
}
_IMAGE = {
    "image_format": "JPEG",
    "image_width": 640,
    "image_height": 427,
    "image_frames": 1,
    "image_bytes": 81920,
    "image_note": None,
    "image_note_text": None,
    "provenance": {"says": "camera", "sources": [{"kind": "exif", "says": "camera"}]},
}
_NO_IMAGE = (
    "This is a PDF document. D3 reads JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, ICO "
    "and PSD."
)
_SAID = {"reason": None, "reason_text": None, "notice": ""}
_OPINION = {
    **{name: _NUMBERS[name] for name in ("model", "prediction", "verdict", "threshold", "logit")},
    **{name: _NUMBERS[name] for name in ("engine", "precision", "device")},
    "reason": None,
    "calibration": "newsroom",
    "calibrated": True,
    "seconds": 0.117,
    "calibration_scale": 1.0,
    "calibration_bias": 0.0,
    "abstain_below": 0.1,
    "abstain_above": 0.1,
    "logits": [],
}
_OTHER_MODEL = {"name": "ferretnet-s", "version": 1, "sha256": _SHA256[::-1]}
_OTHER = {"model": _OTHER_MODEL, "prediction": 0.982, "logit": 4.0, "seconds": 0.006}
_PANEL = {
    "opinions": [_OPINION, _OPINION | _OTHER],
    "missing": [
        {
            "model": "ufd-vit-l14",
            "code": "model_not_found",
            "error": "There is no model 'ufd-vit-l14'. Run `d3 models pull ufd-vit-l14`.",
        }
    ],
    "agreement": "agree",
    "panel_rule": "chief",
    "stability": {"jpeg": 0.73, "scaled": 0.71, "cropped": 0.76, "mirrored": 0.75},
    "clip": None,
}
_RESULT = _NUMBERS | {
    "calibration": "newsroom",
    "calibration_fpr": 0.008,
    "calibration_tpr": 0.72,
    **_SAID,
    **_IMAGE,
    **_PANEL,
}
_KEPT = {
    "id": 1,
    "image_name": "photo.jpg",
    **_NUMBERS,
    "created_at": "2026-01-31T12:00:00Z",
    "user_id": 7,
    **_IMAGE,
    "calibration": "none",
    "d3_version": "0.1.0",
    "request_id": "0c1c6f1e5f3b4f7c9d3a2b1e8f7a6b5c",
    "label": None,
    **_SAID,
    **_PANEL,
}
_FRAME = {
    "time": 0.0,
    "prediction": 0.75,
    "verdict": "fake",
    "reason": None,
    "logit": 1.0986,
    "is_cut": False,
}
_CLIP = {
    "frames": [_FRAME, _FRAME | {"time": 1.0}, _FRAME | {"time": 2.0}],
    "share_above": 1.0,
    "highest_mean": 0.75,
    "highest_from": 0.0,
    "highest_until": 2.0,
    "duration": 3.0,
    "judged_until": 2.0,
    "every": 1.0,
    "most": 100,
    "cuts": 0,
    "end": "whole",
    "ended_early": False,
    "end_text": "",
    "notes": [],
    "note_texts": [],
    "rule": RULE,
}
_OF_CLIP = _RESULT | {"clip": _CLIP, "image_format": "MP4", "image_frames": 75}
_DRIFT_OF_DAY = {
    "images": 1000,
    "scores": [612, 58, 31, 20, 12, 11, 8, 8, 9, 7, 8, 9, 10, 12, 14, 16, 21, 27, 40, 67],
    "uncertain": {"value": 0.061, "low": 0.0478, "high": 0.0776},
    "psi": {"value": 0.021, "low": 0.0, "high": 0.0719},
    "level": "stable",
    "generated_share": 0.2,
    "psi_with_mix": {"value": 0.512, "low": 0.4187, "high": 0.6203},
    "labelled_real": {"fake": 1, "real": 55, "uncertain": 4},
    "labelled_generated": {"fake": 8, "real": 1, "uncertain": 0},
    "agreement": {"value": 0.9692, "low": 0.8946, "high": 0.9915},
    "fpr": {"value": 0.0167, "low": 0.0029, "high": 0.0886},
    "tpr": None,
}
_DRIFT = {
    "model_name": "d3-vit-l14",
    "model_version": 2,
    "calibration": "newsroom",
    "reference": {
        "real": [380, 41, 19, 14, 9, 6, 5, 5, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 0],
        "fake": [4, 3, 3, 4, 3, 4, 5, 5, 6, 7, 8, 10, 12, 15, 19, 26, 39, 58, 90, 179],
    },
    "calibration_fpr": {"value": 0.008, "low": 0.0031, "high": 0.0204},
    "calibration_tpr": {"value": 0.72, "low": 0.6791, "high": 0.7576},
    "since": "2026-01-01T12:00:00Z",
    "until": None,
    "total": _DRIFT_OF_DAY,
    "days": [_DRIFT_OF_DAY | {"start": "2026-01-31T00:00:00Z"}],
    "note": "",
    "notice": "",
}
_TOTALS = {
    "total_inferences": 1000,
    "total_fake": 600,
    "total_real": 400,
    "fake_percentage": 60.0,
    "avg_processing_time": 0.15,
    "by_verdict": {"fake": 540, "real": 370, "uncertain": 90},
    "demo": 0,
    "agreement": {"agree": 820, "partial": 130, "disagree": 50},
}
_LABEL = {
    "id": 3,
    "result_id": 17,
    "label": "real",
    "source": "photographer",
    "note": "Has the raw file.",
    "created_at": "2026-01-31T12:00:00Z",
    "user_id": 7,
}
_JOB = {
    "id": "0c1c6f1e5f3b4f7c",
    "state": "running",
    "created_at": "2026-01-31T12:00:00Z",
    "finished_at": None,
    "expires_at": "2026-02-07T12:00:00Z",
    "threshold": 0.5,
    "views": 1,
    "panel": None,
    "panel_rule": None,
    "stability": False,
    "callback": "https://example.net/hooks/d3",
    "callback_secret": None,
    "trouble": None,
    "counts": {
        "items": 2,
        "waiting": 1,
        "fake": 1,
        "real": 0,
        "uncertain": 0,
        "error": 0,
        "cancelled": 0,
    },
}
_WAITING = {"items": 2, "waiting": 2} | dict.fromkeys(
    ("fake", "real", "uncertain", "error", "cancelled"), 0
)
_SCAN = {
    "id": "archive-2026",
    "state": "running",
    "source": "s3://archive/2026/",
    "model": _MODEL,
    "threshold": 0.5,
    "views": 2,
    "by_service": True,
    "created_at": "2026-01-31T12:00:00Z",
    "finished_at": None,
    "trouble": None,
    "listed_all": False,
    "listed": 120000,
    "fake": 9211,
    "real": 88310,
    "uncertain": 0,
    "error": 12,
    "passed_over": 3,
    "notice": "",
    "panel": [_MODEL, _OTHER_MODEL],
    "panel_rule": "chief",
    "stability": False,
    "video": False,
}

_WEBHOOK = {
    "id": 3,
    "user_id": 7,
    "name": "newsroom",
    "url": "https://app.example.org/d3",
    "events": ["job.finished", "result.created"],
    "verdicts": ["fake"],
    "everyone": False,
    "enabled": True,
    "trouble": None,
    "failures": 0,
    "answered_at": "2026-01-31T12:00:00Z",
    "created_at": "2026-01-30T12:00:00Z",
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the specification's example
_DELIVERY = {
    "id": 17,
    "webhook_id": 3,
    "url": "https://app.example.org/d3",
    "event_id": "evt_0c1c6f1e5f3b4f7c9d3a2b1e8f7a6b5c",
    "type": "result.created",
    "state": "sent",
    "attempts": 1,
    "created_at": "2026-01-31T12:00:00Z",
    "next_at": None,
    "tried_at": "2026-01-31T12:00:01Z",
    "status": 204,
    "trouble": None,
}
_DELIVERIES = {"success": True, "count": 1, "next_cursor": None, "deliveries": [_DELIVERY]}
_AGAIN = {"state": "waiting", "attempts": 0, "next_at": "2026-01-31T12:00:00Z"}

ANSWERS: dict[str, Any] = {
    "predict": {"success": True, "result": _RESULT, "inference_id": 1},
    "predictVideo": {"success": True, "result": _OF_CLIP, "inference_id": 1},
    "getEvidenceKey": {
        "success": True,
        "key_id": "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2",
        "public_key": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbL"
        "DFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
    },
    "explain": {
        "success": True,
        "explanation": {
            "meaning": "The scale fits each image. The map is not proof.",
            "values": [[-0.25, 1.0], [-1.0, 0.5]],
            "overlay": "iVBORw0KGgo=",
            "notice": "",
        },
    },
    "predictBatch": {
        "success": True,
        "count": 2,
        "results": [
            {"filename": "photo.jpg", "result": _RESULT, "inference_id": 2},
            {
                "filename": "notes.pdf",
                "error": _NO_IMAGE,
                "code": "not_an_image",
            },
        ],
    },
    "listHistory": {"success": True, "count": 1, "total": 1, "results": [_KEPT]},
    "getResult": {"success": True, "result": _KEPT},
    "deleteResult": {"success": True, "message": "Result deleted successfully"},
    "deleteResults": {"success": True, "count": 2, "missing": [19]},
    "labelResult": {"success": True, "label": _LABEL},
    "listLabels": {"success": True, "count": 1, "labels": [_LABEL]},
    "labelResults": {"success": True, "count": 2},
    "getStatistics": {"success": True, "stats": _TOTALS},
    "getDrift": {"success": True, "drift": _DRIFT},
    "getModelInfo": {
        "success": True,
        "info": {
            "loaded": True,
            "model_name": "d3-vit-l14",
            "architecture": "CLIP:ViT-L/14",
            "device": "cuda:0",
            "precision": "bf16",
            "version": 1,
            "sha256": _MODEL_SHA256,
            "threshold": 0.5,
            "engine": "torch",
            "notice": "",
            "panel": [
                {"name": "d3-vit-l14", "version": 1, "loaded": True, "error": None},
                {"name": "ferretnet-s", "version": 1, "loaded": True, "error": None},
            ],
            "panel_rule": "chief",
        },
    },
    "loadModel": {
        "success": True,
        "message": "Model loaded successfully",
        "model_name": "d3-vit-l14",
        "version": 1,
    },
    "unloadModel": {"success": True, "message": "Model unloaded successfully"},
    "uploadModel": {
        "success": True,
        "message": "Model uploaded successfully",
        "model_name": "classifier.pth",
        "sha256": _MODEL_SHA256,
        "version": 1,
    },
    "startJob": {
        "success": True,
        "job": _JOB
        | {"counts": _WAITING, "callback_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    },
    "listJobs": {"success": True, "count": 1, "jobs": [_JOB]},
    "getJob": {
        "success": True,
        "job": _JOB,
        "count": 2,
        "next_cursor": None,
        "results": [
            {
                "number": 1,
                "name": "photo.jpg",
                "external_id": "17/1",
                "state": "judged",
                "result": _KEPT,
                "inference_id": 1,
                "error": None,
                "code": None,
            },
            {
                "number": 2,
                "name": "drawing.png",
                "external_id": "17/2",
                "state": "waiting",
                "result": None,
                "inference_id": None,
                "error": None,
                "code": None,
            },
        ],
    },
    "cancelJob": {
        "success": True,
        "job": _JOB
        | {
            "state": "cancelled",
            "finished_at": "2026-01-31T12:00:05Z",
            "counts": _WAITING | {"waiting": 0, "fake": 1, "cancelled": 1},
        },
    },
    "startScan": {"success": True, "scan": _SCAN},
    "listScans": {"success": True, "count": 1, "scans": [_SCAN]},
    "getScan": {"success": True, "scan": _SCAN},
    "cancelScan": {"success": True, "scan": _SCAN | {"state": "cancelled"}},
    "listScanResults": {
        "success": True,
        "count": 1,
        "next_cursor": None,
        "results": [
            {
                "uri": "s3://archive/2026/photo.jpg",
                **{name: _NUMBERS[name] for name in ("verdict", "prediction", "logit", "spread")},
                "error": None,
                "image_sha256": _SHA256,
                **_IMAGE,
                "processing_time": 0.123,
                "created_at": "2026-01-31T12:00:00Z",
                **_SAID,
                **_PANEL,
            }
        ],
    },
    "createWebhook": {"success": True, "webhook": _WEBHOOK, "secret": _SECRET},
    "listWebhooks": {"success": True, "count": 1, "webhooks": [_WEBHOOK]},
    "getWebhook": {"success": True, "webhook": _WEBHOOK},
    "changeWebhook": {"success": True, "webhook": _WEBHOOK | {"enabled": False}},
    "removeWebhook": {"success": True, "message": "The webhook was removed."},
    "rotateWebhook": {"success": True, "webhook": _WEBHOOK, "secret": _SECRET},
    "testWebhook": {"success": True, "delivery": _DELIVERY | {"type": "webhook.test"}},
    "listWebhookDeliveries": _DELIVERIES,
    "listDeliveries": _DELIVERIES,
    "resendDelivery": {"success": True, "delivery": _DELIVERY | _AGAIN},
    "getHealth": {
        "status": "healthy",
        "model_loaded": True,
        "device": "cuda:0",
        "version": "0.1.0",
    },
    "getReadiness": {"ready": True, "missing": []},
}
"""Examples of successful responses, by operation id."""

ERRORS: dict[int, tuple[str, str]] = {
    400: (
        "invalid_threshold",
        (
            "The threshold 'abc' is not a number between 0 and 1. Use a number such as 0.5, or "
            "leave it out to use the model's threshold."
        ),
    ),
    401: ("key_missing", "This request needs an API key. Send one as `Authorization: Bearer KEY`."),
    403: (
        "forbidden",
        "This API key does not have the scope 'models'. An administrator can create one.",
    ),
    408: (
        "body_too_slow",
        "Only 512 bytes of the request's body arrived in 20 seconds.",
    ),
    429: ("rate_limited", "Too many requests. Wait for the time in Retry-After, then try again."),
    404: (
        "result_not_found",
        "There is no result with this id. GET /api/inference/history lists all results.",
    ),
    409: ("load_in_progress", "Another model is being loaded. Try again when it is loaded."),
    413: (
        "body_too_large",
        (
            "The request's body is larger than 52,494,336 bytes. Send a smaller image, or fewer "
            "images at once."
        ),
    ),
    415: (
        "not_an_image",
        _NO_IMAGE,
    ),
    422: ("damaged_image", "The JPEG image is damaged or cut short. Download or export it again."),
    503: (
        "model_not_loaded",
        (
            "No model is loaded. Load one with POST /api/model/load. GET /api/model/list shows all "
            "models."
        ),
    ),
}
"""An example of a code and a message for each error status."""
