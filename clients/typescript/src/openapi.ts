// Written by `npm run generate` from docs/openapi.json. Do not edit.

export interface paths {
    "/api/evidence/key": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get the public key that evidence is checked with
         * @description The public half of the key that signs, for everybody who has a bundle of this service.
         */
        get: operations["getEvidenceKey"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/drift": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Compare results with the calibration
         * @description Drift of the scores of one version of a model, in all and by day (UTC).
         *
         *     ``psi`` compares the scores with those of the calibration's images, mixed so that they fit
         *     best. ``level`` says what it means: ``stable``, ``watch``, ``drifted``, or ``unclear`` if
         *     its interval does not allow an answer. Rates are measured on labelled results. Without
         *     `since`, the last 30 days are compared.
         */
        get: operations["getDrift"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/explain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Draw the heat map of one image
         * @description Show where the score of an image comes from. Stores nothing.
         *
         *     The image is sent as for `predict`.
         */
        post: operations["explain"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Page through the history
         * @description Results, newest first by default. Page by offset (with a total) or by cursor.
         */
        get: operations["listHistory"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/history.csv": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export the filtered history as CSV
         * @description Every result that matches, newest first, one row per result.
         */
        get: operations["exportHistoryCsv"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/history.jsonl": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export the filtered history as JSON lines
         * @description Every result that matches, newest first, one object per line.
         */
        get: operations["exportHistoryJsonLines"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/labels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Label many results
         * @description Give up to 1,000 results the same label, all or none.
         */
        post: operations["labelResults"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/predict": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Judge one image
         * @description Tell whether an image was made or altered by a generator.
         *
         *     The body is a form with the image in the field ``file``, or the file itself, with its type
         *     and with parameters in the address, or JSON with the file in base64. If the service fetches
         *     links (`D3_FETCH_LINKS`), ``url`` can replace the file in a form and in JSON.
         *
         *     ``frames=all`` judges every frame of an animated image, which gives one verdict too.
         *
         *     With an ``Idempotency-Key``, a repeated request gets the same answer and no second result.
         */
        post: operations["predict"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/predict-batch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Judge several images
         * @description Judge the images in the fields ``files``. A bad file does not affect the others.
         */
        post: operations["predictBatch"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/predict-video": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Judge one video
         * @description Judge the video in the field ``file`` by its frames, which gives one verdict.
         *
         *     A clip with up to 30 moments to judge, by default half a minute, is answered at once. A
         *     longer one, and any with a `callback`, becomes a job of one item: the answer is 202, as that
         *     of `POST /api/jobs`. Needs the extra `video`. An animated image is always judged at once, by
         *     every frame.
         *
         *     With an ``Idempotency-Key``, a repeated request gets the same answer and no second result.
         */
        post: operations["predictVideo"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/result/{result_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get one result
         * @description The result with this id. Without the scope `admin`, only your own results are found.
         */
        get: operations["getResult"];
        put?: never;
        post?: never;
        /**
         * Delete one result
         * @description Permanently delete the result with this id. A key with only the scope `read` may not.
         */
        delete: operations["deleteResult"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/result/{result_id}/evidence": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get one result as a signed bundle of evidence
         * @description All that is known of the result, with reports for people, hashes and a signature.
         *
         *     The service stores no images, so the bundle holds neither image nor heat map. Without a
         *     signing key (`d3 keys sign-init`), the answer is 409: an unsigned bundle proves nothing.
         */
        get: operations["getEvidence"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/result/{result_id}/label": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Say what an image truly is
         * @description Keep what somebody says the image is, with who said it and when.
         *
         *     The verdict stays as it is. What was said before stays in the history of labels.
         */
        post: operations["labelResult"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/result/{result_id}/labels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what was said about an image
         * @description Every label that this result was ever given, newest first.
         */
        get: operations["listLabels"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/results/delete": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Delete many results
         * @description Permanently delete up to 1,000 results at once.
         *
         *     Results that are not there, or not yours, are named in ``missing``; the others go all or
         *     none.
         */
        post: operations["deleteResults"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inference/stats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Count results
         * @description Totals, and with ``bucket`` or ``group`` also totals per hour, day or group.
         */
        get: operations["getStatistics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List jobs
         * @description The caller's jobs, newest first; an administrator sees all.
         */
        get: operations["listJobs"];
        put?: never;
        /**
         * Judge many images in the background
         * @description Take many images and judge them in the background, each with a result in the history.
         *
         *     Send the files as a form, or links and `s3://` objects as JSON. Answers as soon as all files
         *     are stored. Ask for `GET /api/jobs/{id}` now and then, or name a `callback` that is told.
         *
         *     With an ``Idempotency-Key``, a repeated request gets the same answer and no second job.
         */
        post: operations["startJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/jobs/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a job and its results
         * @description How far the job is, and a page of its images in the order sent, with their results.
         */
        get: operations["getJob"];
        put?: never;
        post?: never;
        /**
         * Cancel a job
         * @description Cancel every image that has no result yet: the job is over at once.
         *
         *     Results are kept, and a job that is done stays done.
         */
        delete: operations["cancelJob"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/model/info": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Describe the model in use
         * @description The loaded model, its device and its precision, and the panel that it heads.
         */
        get: operations["getModelInfo"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/model/list": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the registry's models
         * @description All models by name, each in its newest version.
         */
        get: operations["listModels"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/model/load": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Load a model
         * @description Load a model. The old model keeps serving until the new one is ready.
         *
         *     Send the name in the URL, as JSON (``{"name": "mine"}``) or as a form field.
         */
        post: operations["loadModel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/model/unload": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Unload the model
         * @description Free the model's memory. Predictions answer 503 until a model is loaded again.
         */
        post: operations["unloadModel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/model/upload": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Upload a model's file
         * @description Store a head such as ``classifier.pth``, or the only file of an architecture, as a model.
         *
         *     The file is checked and never runs code. A head is combined with an encoder of its width.
         *     Uploading a name again creates a new version. Load the model to use it.
         */
        post: operations["uploadModel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/scans": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List scans
         * @description All scans, newest first, including those of `d3 scan`.
         */
        get: operations["listScans"];
        put?: never;
        /**
         * Scan a bucket
         * @description Start to judge every image of a source. Answers at once and works in the background.
         *
         *     The model, or the panel, is fixed when the scan starts: a member that is missing is an
         *     error, so that all rows can be compared. Scans run one after another, survive
         *     restarts of the service, and store one row for each image. The `id` of an existing scan
         *     continues that scan.
         */
        post: operations["startScan"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/scans/{scan_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show the progress of a scan
         * @description The progress of the scan and its counts.
         */
        get: operations["getScan"];
        put?: never;
        post?: never;
        /**
         * Cancel a scan
         * @description Cancel a scan. Workers stop when their shard is done. Finished results are kept.
         *
         *     A scan that is done stays done. `POST /api/scans` with its `id` and source continues it.
         */
        delete: operations["cancelScan"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/scans/{scan_id}/results": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Page through a scan's images
         * @description The results so far, by URI. `d3 scans export` writes all of them to a file.
         */
        get: operations["listScanResults"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List webhooks
         * @description One's own webhooks, or all for an administrator. Secrets are not shown.
         */
        get: operations["listWebhooks"];
        put?: never;
        /**
         * Create a webhook
         * @description Send events to an address from now on. Only this answer shows the secret.
         *
         *     Each event is sent as JSON with the headers `webhook-id`, `webhook-timestamp` and
         *     `webhook-signature` (https://www.standardwebhooks.com). It is tried for a day until the
         *     receiver answers with a status of 200 to 299, and may arrive twice with the same
         *     `webhook-id`.
         */
        post: operations["createWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks/{webhook_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a webhook
         * @description One webhook, and whether its receiver answers.
         */
        get: operations["getWebhook"];
        put?: never;
        post?: never;
        /**
         * Remove a webhook
         * @description Remove a webhook, with all that waits for it.
         */
        delete: operations["removeWebhook"];
        options?: never;
        head?: never;
        /**
         * Change, enable or disable a webhook
         * @description Change what is sent, or whether anything is. What waits for it goes on waiting.
         */
        patch: operations["changeWebhook"];
        trace?: never;
    };
    "/api/webhooks/{webhook_id}/deliveries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what was sent to a webhook
         * @description The events of the last days for this webhook, newest first.
         */
        get: operations["listWebhookDeliveries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks/{webhook_id}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a new secret
         * @description Replace the secret. Only this answer shows the new one. For a day both sign.
         */
        post: operations["rotateWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks/{webhook_id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send a test event
         * @description Send an event of the type `webhook.test` now, once, and wait for the answer.
         */
        post: operations["testWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks/deliveries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what was sent
         * @description The events of the last days for all webhooks and callbacks of jobs, newest first.
         */
        get: operations["listDeliveries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhooks/deliveries/{delivery_id}/resend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send an event again
         * @description Send an event again, with the same `webhook-id`, for a day from now on.
         */
        post: operations["resendDelivery"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show the health of the service
         * @description Answers 200 while the process is running.
         */
        get: operations["getHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health/live": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show that the process is running
         * @description The same as ``/health``, at the address that orchestrators expect.
         */
        get: operations["getLiveness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show whether requests can be answered
         * @description Answers 200 if they can, else 503. Both name what is missing.
         *
         *     The other members of a panel, the model store and the result cache are named too, but images
         *     can be judged without them, so they do not make the service unready.
         */
        get: operations["getReadiness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Measure
         * @description Metrics in the Prometheus text format.
         */
        get: operations["getMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** BatchItem */
        BatchItem: {
            code?: string;
            error?: string;
            filename: string;
            inference_id?: number;
            result?: components["schemas"]["Result"];
        };
        /** BatchPrediction */
        BatchPrediction: {
            count: number;
            results: components["schemas"]["BatchItem"][];
            /** @default true */
            success: boolean;
        };
        /**
         * BulkDeleteRequest
         * @description Which results.
         */
        BulkDeleteRequest: {
            /** @description The `id` of each result. */
            ids: number[];
        };
        /**
         * BulkLabelRequest
         * @description Which results, and what they are.
         */
        BulkLabelRequest: {
            /** @description The `id` of each result. */
            ids: number[];
            /**
             * @description What the image is. `unknown` takes back what was said before.
             * @enum {string}
             */
            label: "real" | "generated" | "unknown";
            /**
             * @description Anything else.
             * @default
             */
            note: string;
            /**
             * @description How it is known, in one line.
             * @default
             */
            source: string;
        };
        /** ByAgreement */
        ByAgreement: {
            /** @default 0 */
            agree: number;
            /** @default 0 */
            disagree: number;
            /** @default 0 */
            partial: number;
        };
        /** ByVerdict */
        ByVerdict: {
            /** @default 0 */
            fake: number;
            /** @default 0 */
            real: number;
            /** @default 0 */
            uncertain: number;
        };
        /**
         * ClipEnd
         * @description Why no more of a clip was judged; :attr:`sentence` says it to people.
         * @default whole
         * @enum {string}
         */
        ClipEnd: "whole" | "cut_short" | "damaged" | "too_long" | "too_slow";
        /** ClipFrame */
        ClipFrame: {
            /** @default false */
            is_cut: boolean;
            /** @default 0 */
            logit: number;
            prediction: number;
            reason: components["schemas"]["Reason"] | null;
            time: number;
            verdict: components["schemas"]["Verdict"];
        };
        /**
         * ClipNote
         * @description What is unusual about a clip; :attr:`sentence` explains it.
         * @enum {string}
         */
        ClipNote: "hdr" | "rotated" | "several_streams" | "sparse";
        /** ClipVerdict */
        ClipVerdict: {
            /** @default 0 */
            cuts: number;
            duration: number;
            end: components["schemas"]["ClipEnd"];
            /** @default  */
            end_text: string;
            /** @default false */
            ended_early: boolean;
            every: number;
            frames: components["schemas"]["ClipFrame"][];
            highest_from: number;
            highest_mean: number;
            highest_until: number;
            judged_until: number;
            most: number;
            /** @default [] */
            note_texts: string[];
            /** @default [] */
            notes: components["schemas"]["ClipNote"][];
            /** @default Each frame is judged as an image. A clip is fake where more than half of five frames in a row are fake and the highest mean over five frames in a row is above the threshold. It is real where more than half of any five frames in a row are real and that mean is not above it. Otherwise, and with fewer than three frames, it is uncertain. */
            rule: string;
            share_above: number;
        };
        /** Deleted */
        Deleted: {
            count: number;
            missing: number[];
            /** @default true */
            success: boolean;
        };
        /** DeliveryItem */
        DeliveryItem: {
            attempts: number;
            /** Format: date-time */
            created_at: string;
            event_id: string;
            id: number;
            next_at: string | null;
            state: components["schemas"]["DeliveryState"];
            status: number | null;
            tried_at: string | null;
            trouble: string | null;
            type: string;
            url: string;
            webhook_id: number | null;
        };
        /** DeliveryPage */
        DeliveryPage: {
            count: number;
            deliveries: components["schemas"]["DeliveryItem"][];
            next_cursor: string | null;
            /** @default true */
            success: boolean;
        };
        /**
         * DeliveryState
         * @description How a delivery stands.
         * @enum {string}
         */
        DeliveryState: "waiting" | "sent" | "dead";
        /** Done */
        Done: {
            message: string;
            /** @default true */
            success: boolean;
        };
        /** Drift */
        Drift: {
            agreement: components["schemas"]["Share"] | null;
            fpr: components["schemas"]["Share"] | null;
            generated_share: number | null;
            images: number;
            labelled_generated: components["schemas"]["VerdictCounts"];
            labelled_real: components["schemas"]["VerdictCounts"];
            level: components["schemas"]["Level"];
            psi: components["schemas"]["Share"] | null;
            psi_with_mix: components["schemas"]["Share"] | null;
            scores: number[];
            tpr: components["schemas"]["Share"] | null;
            uncertain: components["schemas"]["Share"] | null;
        };
        /** DriftAnswer */
        DriftAnswer: {
            drift: components["schemas"]["DriftReport"];
            /** @default true */
            success: boolean;
        };
        /** DriftOfDay */
        DriftOfDay: {
            agreement: components["schemas"]["Share"] | null;
            fpr: components["schemas"]["Share"] | null;
            generated_share: number | null;
            images: number;
            labelled_generated: components["schemas"]["VerdictCounts"];
            labelled_real: components["schemas"]["VerdictCounts"];
            level: components["schemas"]["Level"];
            psi: components["schemas"]["Share"] | null;
            psi_with_mix: components["schemas"]["Share"] | null;
            scores: number[];
            /** Format: date-time */
            start: string;
            tpr: components["schemas"]["Share"] | null;
            uncertain: components["schemas"]["Share"] | null;
        };
        /** DriftReport */
        DriftReport: {
            calibration: string;
            calibration_fpr: components["schemas"]["Share"] | null;
            calibration_tpr: components["schemas"]["Share"] | null;
            days: components["schemas"]["DriftOfDay"][];
            model_name: string;
            model_version: number;
            note: string;
            notice: string;
            reference: components["schemas"]["Reference"] | null;
            since: string | null;
            total: components["schemas"]["Drift"];
            until: string | null;
        };
        /** EvidenceKey */
        EvidenceKey: {
            key_id: string;
            public_key: string;
            /** @default true */
            success: boolean;
        };
        /** Explained */
        Explained: {
            explanation: components["schemas"]["Explanation"];
            /** @default true */
            success: boolean;
        };
        /** Explanation */
        Explanation: {
            meaning: string;
            /**
             * @description A text that must be shown with the verdict, such as how often a demo model is wrong. Empty if there is none.
             * @default
             */
            notice: string;
            overlay: string;
            values: number[][];
        };
        /**
         * GroupBy
         * @description What results can be counted by, beside their verdict and time.
         * @enum {string}
         */
        GroupBy: "model" | "label" | "provenance" | "agreement";
        /** GroupItem */
        GroupItem: {
            agreement: components["schemas"]["ByAgreement"];
            avg_processing_time: number;
            by_verdict: components["schemas"]["ByVerdict"];
            /**
             * @description Number of results of demo models, which have a `notice`.
             * @default 0
             */
            demo: number;
            /** @description 100 * total_fake / total_inferences. 0 if there are no results. */
            fake_percentage: number;
            name: string | null;
            /** @description Number of results with `is_fake`, including uncertain verdicts. */
            total_fake: number;
            total_inferences: number;
            /** @description Number of results without `is_fake`, including uncertain verdicts. */
            total_real: number;
        };
        /** Health */
        Health: {
            device: string;
            model_loaded: boolean;
            status: string;
            version: string;
        };
        /** HistoryItem */
        HistoryItem: {
            /** @description `agree`, `partial` (some are undecided) or `disagree` (one says fake and another real). Null if fewer than two models gave an opinion. */
            agreement: string | null;
            cached: boolean;
            calibration: string;
            /** @description What was seen over a clip's time: each frame that was judged, and the rule that made one verdict of them. `prediction` is the highest mean over five frames in a row. Null for a still. */
            clip: components["schemas"]["ClipVerdict"] | null;
            confidence: number;
            /** Format: date-time */
            created_at: string;
            d3_version: string;
            /** @default  */
            device: string;
            engine: string;
            id: number;
            image_bytes: number | null;
            image_format: string | null;
            /** @description Number of frames, pages or images in the file. D3 judges the first, and of clips those in `clip`. */
            image_frames: number | null;
            image_height: number | null;
            image_name: string;
            /** @description A note about the file: `cut_short` (at most the last rows of the image are missing) or `two_pictures` (some programs show another image). Null if there is no note. */
            image_note: string | null;
            /** @description `image_note` as a sentence for people. */
            image_note_text: string | null;
            image_sha256: string | null;
            image_width: number | null;
            /** @description Whether `prediction` is above `threshold`, even if `verdict` is `uncertain`. Show and count `verdict` instead. */
            is_fake: boolean;
            /** @description What somebody says the image is: `real`, `generated` or `unknown`. It never changes the verdict. */
            label: string | null;
            /** @default  */
            libraries: string;
            logit: number | null;
            /** @description Each view's raw logit. Empty for old results of several views. */
            logits: number[];
            /**
             * @description Models of the panel that gave no opinion, and why.
             * @default []
             */
            missing: components["schemas"]["Missing"][];
            model: components["schemas"]["Model"] | null;
            /**
             * @description A text that must be shown with the verdict, such as how often a demo model is wrong. Empty if there is none.
             * @default
             */
            notice: string;
            /**
             * @description What each model of the panel says, the chief first: each with its own threshold and calibration. Empty if one model judged alone.
             * @default []
             */
            opinions: components["schemas"]["Opinion"][];
            /** @description How the opinions became one verdict: `chief`, `any` or `majority`. */
            panel_rule: string | null;
            precision: string;
            prediction: number;
            processing_time: number;
            /** @description What the file says about itself. It can be forged and removed, and is not part of the score. Null if nobody looked. */
            provenance: components["schemas"]["ProvenanceItem"] | null;
            /** @description Why the verdict is `uncertain`: `too_small`, `one_colour`, `alpha_only` (drawn only in transparency), `spread` (the views disagree), `abstain_band` (too close to the threshold), `panel` (the models do not agree), `unstable` (a harmless change of the image turns it), `frames` (the frames of a clip do not agree) or `few_frames` (it has too few). Null for other verdicts. */
            reason: string | null;
            /** @description `reason` as a sentence for people. */
            reason_text: string | null;
            request_id: string | null;
            spread: number;
            /** @description The probability after each harmless change of the image: `jpeg`, `scaled`, `cropped` and `mirrored`. Empty unless asked for. */
            stability: {
                [key: string]: number;
            };
            threshold: number;
            user_id: number | null;
            /** @enum {string} */
            verdict: "fake" | "real" | "uncertain";
            views: number;
        };
        /** HistoryPage */
        HistoryPage: {
            count: number;
            next_cursor?: string | null;
            results: components["schemas"]["HistoryItem"][];
            /** @default true */
            success: boolean;
            total?: number;
        };
        /**
         * ItemState
         * @description How an item stands.
         * @enum {string}
         */
        ItemState: "waiting" | "judged" | "error" | "cancelled";
        /** JobBody */
        JobBody: {
            callback: string | null;
            callback_secret: string | null;
            counts: components["schemas"]["JobCountsBody"];
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string;
            finished_at: string | null;
            id: string;
            panel: string[] | null;
            panel_rule: components["schemas"]["PanelRule"] | null;
            stability: boolean;
            state: components["schemas"]["JobState"];
            threshold: number | null;
            trouble: string | null;
            views: number;
        };
        /** JobCountsBody */
        JobCountsBody: {
            cancelled: number;
            error: number;
            fake: number;
            items: number;
            real: number;
            uncertain: number;
            waiting: number;
        };
        /** JobPage */
        JobPage: {
            count: number;
            jobs: components["schemas"]["JobBody"][];
            /** @default true */
            success: boolean;
        };
        /** JobResult */
        JobResult: {
            code: string | null;
            error: string | null;
            external_id: string | null;
            inference_id: number | null;
            name: string;
            number: number;
            result: components["schemas"]["HistoryItem"] | null;
            state: components["schemas"]["ItemState"];
        };
        /** JobResults */
        JobResults: {
            count: number;
            job: components["schemas"]["JobBody"];
            next_cursor: string | null;
            results: components["schemas"]["JobResult"][];
            /** @default true */
            success: boolean;
        };
        /**
         * JobState
         * @description How a job stands.
         * @enum {string}
         */
        JobState: "running" | "done" | "cancelled";
        /**
         * LabelIs
         * @description A label, for a filter. With `none`, nobody said anything.
         * @enum {string}
         */
        LabelIs: "real" | "generated" | "unknown" | "none";
        /** LabelItem */
        LabelItem: {
            /** Format: date-time */
            created_at: string;
            id: number;
            label: string;
            note: string;
            result_id: number;
            source: string;
            user_id: number | null;
        };
        /** Labelled */
        Labelled: {
            count: number;
            /** @default true */
            success: boolean;
        };
        /** LabelList */
        LabelList: {
            count: number;
            labels: components["schemas"]["LabelItem"][];
            /** @default true */
            success: boolean;
        };
        /**
         * LabelRequest
         * @description What the image is.
         */
        LabelRequest: {
            /**
             * @description What the image is. `unknown` takes back what was said before.
             * @enum {string}
             */
            label: "real" | "generated" | "unknown";
            /**
             * @description Anything else.
             * @default
             */
            note: string;
            /**
             * @description How it is known, in one line.
             * @default
             */
            source: string;
        };
        /**
         * Level
         * @description What a population stability index means; :attr:`sentence` says it to people.
         * @enum {string}
         */
        Level: "stable" | "watch" | "drifted" | "unclear";
        /** LoadedModelInfo */
        LoadedModelInfo: {
            architecture: string;
            device: string;
            engine: string | null;
            loaded: boolean;
            model_name: string | null;
            /** @default  */
            notice: string;
            panel: components["schemas"]["PanelMember"][];
            /** @description How the opinions became one verdict: `chief`, `any` or `majority`. */
            panel_rule: string | null;
            precision: string | null;
            sha256: string | null;
            threshold: number | null;
            version: number | null;
        };
        /** Missing */
        Missing: {
            code: string;
            error: string;
            model: string;
        };
        /** Model */
        Model: {
            name: string;
            sha256: string;
            version: number;
        };
        /** ModelDetails */
        ModelDetails: {
            active: boolean;
            architecture: string;
            created_at: string;
            licence: string;
            metrics: {
                [key: string]: unknown;
            };
            name: string;
            notice: string;
            /** @default  */
            package: string;
            packaged: boolean;
            provenance: string;
            sha256: string;
            threshold: number;
            trouble: string | null;
            version: number;
        };
        /** ModelInfo */
        ModelInfo: {
            info: components["schemas"]["LoadedModelInfo"];
            /** @default true */
            success: boolean;
        };
        /** ModelList */
        ModelList: {
            count: number;
            details: components["schemas"]["ModelDetails"][];
            models: string[];
            /** @default true */
            success: boolean;
        };
        /** ModelLoaded */
        ModelLoaded: {
            message: string;
            model_name: string;
            /** @default true */
            success: boolean;
            version: number;
        };
        /** ModelReference */
        ModelReference: {
            name: string;
            sha256: string;
            version: number;
        };
        /** NewSecret */
        NewSecret: {
            secret: string;
            /** @default true */
            success: boolean;
            webhook: components["schemas"]["WebhookItem"];
        };
        /** OneDelivery */
        OneDelivery: {
            delivery: components["schemas"]["DeliveryItem"];
            /** @default true */
            success: boolean;
        };
        /** OneJob */
        OneJob: {
            job: components["schemas"]["JobBody"];
            /** @default true */
            success: boolean;
        };
        /** OneLabel */
        OneLabel: {
            label: components["schemas"]["LabelItem"];
            /** @default true */
            success: boolean;
        };
        /** OneResult */
        OneResult: {
            result: components["schemas"]["HistoryItem"];
            /** @default true */
            success: boolean;
        };
        /** OneScan */
        OneScan: {
            scan: components["schemas"]["ScanItem"];
            /** @default true */
            success: boolean;
        };
        /** OneWebhook */
        OneWebhook: {
            /** @default true */
            success: boolean;
            webhook: components["schemas"]["WebhookItem"];
        };
        /** Opinion */
        Opinion: {
            /** @default 0 */
            abstain_above: number;
            /** @default 0 */
            abstain_below: number;
            calibrated: boolean;
            calibration: string;
            /** @default 0 */
            calibration_bias: number;
            /** @default 1 */
            calibration_scale: number;
            /** @default  */
            device: string;
            /** @default  */
            engine: string;
            logit: number;
            /** @default [] */
            logits: number[];
            model: components["schemas"]["ModelReference"];
            /** @default  */
            precision: string;
            prediction: number;
            reason: components["schemas"]["Reason"] | null;
            seconds: number;
            threshold: number;
            verdict: components["schemas"]["Verdict"];
        };
        /** PanelMember */
        PanelMember: {
            error: string | null;
            loaded: boolean;
            name: string;
            version: number | null;
        };
        /**
         * PanelRule
         * @description How the verdicts of a panel's members become one.
         *
         *         The chief and every member with a calibration have a vote. A member whose probability lies in
         *         its own abstain band, or whose views disagree, is undecided.
         *
         *         ``chief``: the chief's verdict, or ``uncertain`` where a vote contradicts it. ``any``: ``fake``
         *         where any vote says so, else ``uncertain`` where one is undecided, else ``real``. ``majority``:
         *         what more than half of the votes say, else ``uncertain``.
         * @enum {string}
         */
        PanelRule: "chief" | "any" | "majority";
        /** Prediction */
        Prediction: {
            explanation?: components["schemas"]["Explanation"];
            inference_id: number;
            result: components["schemas"]["Result"];
            /** @default true */
            success: boolean;
        };
        /** Problem */
        Problem: {
            code: string;
            detail: string;
            error: string;
            request_id: string;
            status: number;
            success: boolean;
            title: string;
            type: string;
        };
        /** ProvenanceItem */
        ProvenanceItem: {
            says: string;
            sources: components["schemas"]["SourceItem"][];
        };
        /** Readiness */
        Readiness: {
            missing: string[];
            ready: boolean;
        };
        /**
         * Reason
         * @description Why a verdict is ``uncertain``; :attr:`sentence` says it to people.
         * @enum {string}
         */
        Reason: "too_small" | "one_colour" | "alpha_only" | "spread" | "abstain_band" | "panel" | "unstable" | "frames" | "few_frames";
        /** Reference */
        Reference: {
            fake: number[];
            real: number[];
        };
        /** Result */
        Result: {
            /** @description `agree`, `partial` (some are undecided) or `disagree` (one says fake and another real). Null if fewer than two models gave an opinion. */
            agreement: string | null;
            cached: boolean;
            /** @default none */
            calibration: string;
            calibration_fpr: number | null;
            calibration_tpr: number | null;
            /** @description What was seen over a clip's time: each frame that was judged, and the rule that made one verdict of them. `prediction` is the highest mean over five frames in a row. Null for a still. */
            clip: components["schemas"]["ClipVerdict"] | null;
            confidence: number;
            /** @default  */
            device: string;
            engine: string;
            image_bytes: number | null;
            image_format: string | null;
            /** @description Number of frames, pages or images in the file. D3 judges the first, and of clips those in `clip`. */
            image_frames: number | null;
            image_height: number | null;
            /** @description A note about the file: `cut_short` (at most the last rows of the image are missing) or `two_pictures` (some programs show another image). Null if there is no note. */
            image_note: string | null;
            /** @description `image_note` as a sentence for people. */
            image_note_text: string | null;
            image_sha256: string;
            image_width: number | null;
            /** @description Whether `prediction` is above `threshold`, even if `verdict` is `uncertain`. Show and count `verdict` instead. */
            is_fake: boolean;
            /** @default  */
            libraries: string;
            logit: number;
            /** @description Each view's raw logit. Empty for old results of several views. */
            logits: number[];
            /**
             * @description Models of the panel that gave no opinion, and why.
             * @default []
             */
            missing: components["schemas"]["Missing"][];
            model: components["schemas"]["Model"];
            /** @description A text that must be shown with the verdict, such as how often a demo model is wrong. Empty if there is none. */
            notice: string;
            /**
             * @description What each model of the panel says, the chief first: each with its own threshold and calibration. Empty if one model judged alone.
             * @default []
             */
            opinions: components["schemas"]["Opinion"][];
            /** @description How the opinions became one verdict: `chief`, `any` or `majority`. */
            panel_rule: string | null;
            precision: string;
            prediction: number;
            processing_time: number;
            /** @description What the file says about itself. It can be forged and removed, and is not part of the score. Null if nobody looked. */
            provenance: components["schemas"]["ProvenanceItem"] | null;
            /** @description Why the verdict is `uncertain`: `too_small`, `one_colour`, `alpha_only` (drawn only in transparency), `spread` (the views disagree), `abstain_band` (too close to the threshold), `panel` (the models do not agree), `unstable` (a harmless change of the image turns it), `frames` (the frames of a clip do not agree) or `few_frames` (it has too few). Null for other verdicts. */
            reason: string | null;
            /** @description `reason` as a sentence for people. */
            reason_text: string | null;
            spread: number;
            /** @description The probability after each harmless change of the image: `jpeg`, `scaled`, `cropped` and `mirrored`. Empty unless asked for. */
            stability: {
                [key: string]: number;
            };
            threshold: number;
            /** @enum {string} */
            verdict: "fake" | "real" | "uncertain";
            views: number;
        };
        /**
         * Says
         * @description What a file says of itself.
         * @enum {string}
         */
        Says: "generated" | "camera" | "edited" | "nothing";
        /** ScanItem */
        ScanItem: {
            by_service: boolean;
            /** Format: date-time */
            created_at: string;
            error: number;
            fake: number;
            finished_at: string | null;
            id: string;
            listed: number;
            listed_all: boolean;
            model: components["schemas"]["Model"];
            /**
             * @description A text that must be shown with the verdict, such as how often a demo model is wrong. Empty if there is none.
             * @default
             */
            notice: string;
            panel: components["schemas"]["Model"][];
            panel_rule: components["schemas"]["PanelRule"] | null;
            passed_over: number;
            real: number;
            source: string;
            /** @default false */
            stability: boolean;
            state: components["schemas"]["ScanState"];
            threshold: number;
            trouble: string | null;
            uncertain: number;
            /** @default false */
            video: boolean;
            views: number;
        };
        /** ScanPage */
        ScanPage: {
            count: number;
            scans: components["schemas"]["ScanItem"][];
            /** @default true */
            success: boolean;
        };
        /**
         * ScanRequest
         * @description What to scan, and how.
         */
        ScanRequest: {
            /**
             * @description Name of the scan. The id of an existing scan continues it, even if it was cancelled. It is safe to send a lost request again.
             * @example summer
             */
            id?: string | null;
            /** @description Name of the model. Default: the default model. */
            model?: string | null;
            /**
             * @description Models that judge together, separated by commas, the chief first. Default: those of D3_PANEL, unless `model` is given.
             * @example d3-vit-l14,ferretnet-s
             */
            panel?: string | null;
            /** @description How their verdicts become one. Default: D3_PANEL_RULE. */
            panel_rule?: components["schemas"]["PanelRule"] | null;
            /**
             * @description `s3://BUCKET/PREFIX` on the service's S3 server, or a folder on the server inside D3_SCAN_FOLDER.
             * @example s3://archive/2026/
             */
            source: string;
            /** @description Judge each image again as JPEG, scaled, cropped and mirrored; the verdict is `uncertain` if one of them turns it. Default: false. */
            stability?: boolean | null;
            /** @description Threshold of the verdicts. Default: the model's threshold. */
            threshold?: number | null;
            /** @description Judge videos too, which needs the extra `video`. Default: false. */
            video?: boolean | null;
            /** @description Number of permutations to average. Default: 1. */
            views?: number | null;
        };
        /** ScanResultItem */
        ScanResultItem: {
            /** @description `agree`, `partial` (some are undecided) or `disagree` (one says fake and another real). Null if fewer than two models gave an opinion. */
            agreement: string | null;
            /** @description What was seen over a clip's time: each frame that was judged, and the rule that made one verdict of them. `prediction` is the highest mean over five frames in a row. Null for a still. */
            clip: components["schemas"]["ClipVerdict"] | null;
            /** Format: date-time */
            created_at: string;
            error: string | null;
            image_bytes: number | null;
            image_format: string | null;
            /** @description Number of frames, pages or images in the file. D3 judges the first, and of clips those in `clip`. */
            image_frames: number | null;
            image_height: number | null;
            /** @description A note about the file: `cut_short` (at most the last rows of the image are missing) or `two_pictures` (some programs show another image). Null if there is no note. */
            image_note: string | null;
            /** @description `image_note` as a sentence for people. */
            image_note_text: string | null;
            image_sha256: string | null;
            image_width: number | null;
            logit: number | null;
            /**
             * @description Models of the panel that gave no opinion, and why.
             * @default []
             */
            missing: components["schemas"]["Missing"][];
            /**
             * @description A text that must be shown with the verdict, such as how often a demo model is wrong. Empty if there is none.
             * @default
             */
            notice: string;
            /**
             * @description What each model of the panel says, the chief first: each with its own threshold and calibration. Empty if one model judged alone.
             * @default []
             */
            opinions: components["schemas"]["Opinion"][];
            /** @description How the opinions became one verdict: `chief`, `any` or `majority`. */
            panel_rule: string | null;
            prediction: number | null;
            processing_time: number | null;
            /** @description What the file says about itself. It can be forged and removed, and is not part of the score. Null if nobody looked. */
            provenance: components["schemas"]["ProvenanceItem"] | null;
            /** @description Why the verdict is `uncertain`: `too_small`, `one_colour`, `alpha_only` (drawn only in transparency), `spread` (the views disagree), `abstain_band` (too close to the threshold), `panel` (the models do not agree), `unstable` (a harmless change of the image turns it), `frames` (the frames of a clip do not agree) or `few_frames` (it has too few). Null for other verdicts. */
            reason: string | null;
            /** @description `reason` as a sentence for people. */
            reason_text: string | null;
            spread: number | null;
            /** @description The probability after each harmless change of the image: `jpeg`, `scaled`, `cropped` and `mirrored`. Empty unless asked for. */
            stability: {
                [key: string]: number;
            };
            uri: string;
            /** @enum {null|string} */
            verdict: "fake" | "real" | "uncertain" | null;
        };
        /** ScanResultPage */
        ScanResultPage: {
            count: number;
            next_cursor: string | null;
            results: components["schemas"]["ScanResultItem"][];
            /** @default true */
            success: boolean;
        };
        /**
         * ScanState
         * @description How a scan stands.
         * @enum {string}
         */
        ScanState: "running" | "done" | "cancelled";
        /** SeriesItem */
        SeriesItem: {
            agreement: components["schemas"]["ByAgreement"];
            avg_processing_time: number;
            by_verdict: components["schemas"]["ByVerdict"];
            /**
             * @description Number of results of demo models, which have a `notice`.
             * @default 0
             */
            demo: number;
            /** @description 100 * total_fake / total_inferences. 0 if there are no results. */
            fake_percentage: number;
            /** Format: date-time */
            start: string;
            /** @description Number of results with `is_fake`, including uncertain verdicts. */
            total_fake: number;
            total_inferences: number;
            /** @description Number of results without `is_fake`, including uncertain verdicts. */
            total_real: number;
        };
        /** Share */
        Share: {
            high: number;
            low: number;
            value: number;
        };
        /**
         * SortKey
         * @description Field to sort by. Equal results are sorted by `created_at`, then `id`.
         * @default created_at
         * @enum {string}
         */
        SortKey: "created_at" | "prediction" | "image_name";
        /** SourceItem */
        SourceItem: {
            actions?: string[];
            camera?: string | null;
            created_at?: string | null;
            digital_source_type?: string | null;
            generator?: string | null;
            ingredients?: string[];
            kind: string;
            model?: string | null;
            modified_at?: string | null;
            position?: string | null;
            prompt?: boolean | null;
            reason?: string | null;
            says: string;
            signed_at?: string | null;
            signer?: string | null;
            software?: string | null;
            state?: string | null;
        };
        /** Stats */
        Stats: {
            stats: components["schemas"]["StatsBody"];
            /** @default true */
            success: boolean;
        };
        /** StatsBody */
        StatsBody: {
            agreement: components["schemas"]["ByAgreement"];
            avg_processing_time: number;
            by_verdict: components["schemas"]["ByVerdict"];
            /**
             * @description Number of results of demo models, which have a `notice`.
             * @default 0
             */
            demo: number;
            /** @description 100 * total_fake / total_inferences. 0 if there are no results. */
            fake_percentage: number;
            groups?: components["schemas"]["GroupItem"][];
            series?: components["schemas"]["SeriesItem"][];
            /** @description Number of results with `is_fake`, including uncertain verdicts. */
            total_fake: number;
            total_inferences: number;
            /** @description Number of results without `is_fake`, including uncertain verdicts. */
            total_real: number;
        };
        /** Uploaded */
        Uploaded: {
            message: string;
            model_name: string;
            sha256: string;
            /** @default true */
            success: boolean;
            version: number;
        };
        /**
         * Verdict
         * @description The verdict on an image.
         * @enum {string}
         */
        Verdict: "fake" | "real" | "uncertain";
        /** VerdictCounts */
        VerdictCounts: {
            /** @default 0 */
            fake: number;
            /** @default 0 */
            real: number;
            /** @default 0 */
            uncertain: number;
        };
        /**
         * WebhookChange
         * @description What to change.
         */
        WebhookChange: {
            /** @description Whether events are sent. */
            enabled?: boolean;
            /** @description What to send. `scan.finished`, `model.changed` and `drift.alert` concern the whole service and need the scope `admin`. */
            events?: ("job.finished" | "scan.finished" | "result.created" | "model.changed" | "drift.alert")[];
            /** @description Results and jobs of all users, not only one's own. Needs the scope `admin`. */
            everyone?: boolean;
            /** @description For its owner. */
            name?: string;
            /**
             * @description Where events are sent: https:// or http://, without a user name or password.
             * @example https://app.example.org/d3
             */
            url?: string;
            /** @description `result.created` only for these verdicts. Empty: for all. */
            verdicts?: ("fake" | "real" | "uncertain")[];
        };
        /** WebhookItem */
        WebhookItem: {
            answered_at: string | null;
            /** Format: date-time */
            created_at: string;
            enabled: boolean;
            events: ("job.finished" | "scan.finished" | "result.created" | "model.changed" | "drift.alert")[];
            everyone: boolean;
            failures: number;
            id: number;
            name: string;
            trouble: string | null;
            url: string;
            user_id: number | null;
            verdicts: ("fake" | "real" | "uncertain")[];
        };
        /** WebhookList */
        WebhookList: {
            count: number;
            /** @default true */
            success: boolean;
            webhooks: components["schemas"]["WebhookItem"][];
        };
        /**
         * WebhookRequest
         * @description Where to, and what.
         */
        WebhookRequest: {
            /** @description What to send. `scan.finished`, `model.changed` and `drift.alert` concern the whole service and need the scope `admin`. */
            events: ("job.finished" | "scan.finished" | "result.created" | "model.changed" | "drift.alert")[];
            /**
             * @description Results and jobs of all users, not only one's own. Needs the scope `admin`.
             * @default false
             */
            everyone: boolean;
            /**
             * @description For its owner.
             * @default
             */
            name: string;
            /**
             * @description Where events are sent: https:// or http://, without a user name or password.
             * @example https://app.example.org/d3
             */
            url: string;
            /** @description `result.created` only for these verdicts. Empty: for all. */
            verdicts?: ("fake" | "real" | "uncertain")[];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type BatchItem = components['schemas']['BatchItem'];
export type BatchPrediction = components['schemas']['BatchPrediction'];
export type BulkDeleteRequest = components['schemas']['BulkDeleteRequest'];
export type BulkLabelRequest = components['schemas']['BulkLabelRequest'];
export type ByAgreement = components['schemas']['ByAgreement'];
export type ByVerdict = components['schemas']['ByVerdict'];
export type ClipEnd = components['schemas']['ClipEnd'];
export type ClipFrame = components['schemas']['ClipFrame'];
export type ClipNote = components['schemas']['ClipNote'];
export type ClipVerdict = components['schemas']['ClipVerdict'];
export type Deleted = components['schemas']['Deleted'];
export type DeliveryItem = components['schemas']['DeliveryItem'];
export type DeliveryPage = components['schemas']['DeliveryPage'];
export type DeliveryState = components['schemas']['DeliveryState'];
export type Done = components['schemas']['Done'];
export type Drift = components['schemas']['Drift'];
export type DriftAnswer = components['schemas']['DriftAnswer'];
export type DriftOfDay = components['schemas']['DriftOfDay'];
export type DriftReport = components['schemas']['DriftReport'];
export type EvidenceKey = components['schemas']['EvidenceKey'];
export type Explained = components['schemas']['Explained'];
export type Explanation = components['schemas']['Explanation'];
export type GroupBy = components['schemas']['GroupBy'];
export type GroupItem = components['schemas']['GroupItem'];
export type Health = components['schemas']['Health'];
export type HistoryItem = components['schemas']['HistoryItem'];
export type HistoryPage = components['schemas']['HistoryPage'];
export type ItemState = components['schemas']['ItemState'];
export type JobBody = components['schemas']['JobBody'];
export type JobCountsBody = components['schemas']['JobCountsBody'];
export type JobPage = components['schemas']['JobPage'];
export type JobResult = components['schemas']['JobResult'];
export type JobResults = components['schemas']['JobResults'];
export type JobState = components['schemas']['JobState'];
export type LabelIs = components['schemas']['LabelIs'];
export type LabelItem = components['schemas']['LabelItem'];
export type Labelled = components['schemas']['Labelled'];
export type LabelList = components['schemas']['LabelList'];
export type LabelRequest = components['schemas']['LabelRequest'];
export type Level = components['schemas']['Level'];
export type LoadedModelInfo = components['schemas']['LoadedModelInfo'];
export type Missing = components['schemas']['Missing'];
export type Model = components['schemas']['Model'];
export type ModelDetails = components['schemas']['ModelDetails'];
export type ModelInfo = components['schemas']['ModelInfo'];
export type ModelList = components['schemas']['ModelList'];
export type ModelLoaded = components['schemas']['ModelLoaded'];
export type ModelReference = components['schemas']['ModelReference'];
export type NewSecret = components['schemas']['NewSecret'];
export type OneDelivery = components['schemas']['OneDelivery'];
export type OneJob = components['schemas']['OneJob'];
export type OneLabel = components['schemas']['OneLabel'];
export type OneResult = components['schemas']['OneResult'];
export type OneScan = components['schemas']['OneScan'];
export type OneWebhook = components['schemas']['OneWebhook'];
export type Opinion = components['schemas']['Opinion'];
export type PanelMember = components['schemas']['PanelMember'];
export type PanelRule = components['schemas']['PanelRule'];
export type Prediction = components['schemas']['Prediction'];
export type Problem = components['schemas']['Problem'];
export type ProvenanceItem = components['schemas']['ProvenanceItem'];
export type Readiness = components['schemas']['Readiness'];
export type Reason = components['schemas']['Reason'];
export type Reference = components['schemas']['Reference'];
export type Result = components['schemas']['Result'];
export type Says = components['schemas']['Says'];
export type ScanItem = components['schemas']['ScanItem'];
export type ScanPage = components['schemas']['ScanPage'];
export type ScanRequest = components['schemas']['ScanRequest'];
export type ScanResultItem = components['schemas']['ScanResultItem'];
export type ScanResultPage = components['schemas']['ScanResultPage'];
export type ScanState = components['schemas']['ScanState'];
export type SeriesItem = components['schemas']['SeriesItem'];
export type Share = components['schemas']['Share'];
export type SortKey = components['schemas']['SortKey'];
export type SourceItem = components['schemas']['SourceItem'];
export type Stats = components['schemas']['Stats'];
export type StatsBody = components['schemas']['StatsBody'];
export type Uploaded = components['schemas']['Uploaded'];
export type Verdict = components['schemas']['Verdict'];
export type VerdictCounts = components['schemas']['VerdictCounts'];
export type WebhookChange = components['schemas']['WebhookChange'];
export type WebhookItem = components['schemas']['WebhookItem'];
export type WebhookList = components['schemas']['WebhookList'];
export type WebhookRequest = components['schemas']['WebhookRequest'];
export type $defs = Record<string, never>;
export interface operations {
    getEvidenceKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EvidenceKey"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getDrift: {
        parameters: {
            query?: {
                /** @description Name of the model. Default: the model in use. */
                model?: string | null;
                /** @description Only images judged at this time or later. Needs a time zone. */
                since?: string | null;
                /** @description Only images judged before this time. Needs a time zone. */
                until?: string | null;
                /** @description Version of the model. Default: the newest. */
                version?: number | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DriftAnswer"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    explain: {
        parameters: {
            query?: {
                /** @description Name of the image. In a form, the file has its name. */
                name?: string;
                /** @description Number of permutations to average. More take longer and show how certain the score is. */
                views?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** @description The image's file in base64, instead of `url`. */
                    image_base64?: string | null;
                    /**
                     * @description Name of the image. In a form, the file has its name.
                     * @example photo.jpg
                     */
                    name?: string | null;
                    /**
                     * Format: uri
                     * @description A link to the image, instead of the file. Answers 403 unless the service has `D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.
                     */
                    url?: string | null;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number | null;
                };
                "application/octet-stream": Blob;
                "image/*": Blob;
                "multipart/form-data": {
                    /** Format: binary */
                    file?: Blob;
                    /**
                     * Format: uri
                     * @description A link to the image, instead of the file. Answers 403 unless the service has `D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.
                     */
                    url?: string;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Explained"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listHistory: {
        parameters: {
            query?: {
                /** @description Only images whose name contains this, in upper or lower case. */
                contains?: string | null;
                /** @description `next_cursor` of the previous page, or empty for the first page. Paging stays correct while new results arrive. Overrides `offset`. */
                cursor?: string | null;
                /** @description Only results of panels: `true` where one model says fake and another real, `false` where none contradicts another. */
                disagree?: boolean | null;
                /** @description Only results of the file with this SHA-256. */
                image_sha256?: string | null;
                /** @description Only results with this `is_fake`, whatever their verdict. Use `verdict` to filter by verdict. */
                is_fake?: boolean | null;
                /** @description Only results with this label. `none`: only results without a label. */
                label?: components["schemas"]["LabelIs"] | null;
                /** @description Number of results per page. */
                limit?: number;
                /** @description Only results of this model. */
                model?: string | null;
                /** @description Number of results to skip. */
                offset?: number;
                /** @description `desc` puts the newest or largest first. */
                order?: "asc" | "desc";
                /** @description Only images whose file says this of itself. */
                provenance?: components["schemas"]["Says"] | null;
                /** @description Only images whose name starts with this. */
                q?: string | null;
                /** @description Only images judged at this time or later. Needs a time zone. */
                since?: string | null;
                /** @description Field to sort by. Equal results are sorted by `created_at`, then `id`. */
                sort?: components["schemas"]["SortKey"];
                /** @description Only images judged before this time. Needs a time zone. */
                until?: string | null;
                /** @description Only results with this verdict. */
                verdict?: components["schemas"]["Verdict"] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HistoryPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    exportHistoryCsv: {
        parameters: {
            query?: {
                /** @description Only images whose name contains this, in upper or lower case. */
                contains?: string | null;
                /** @description Only results of panels: `true` where one model says fake and another real, `false` where none contradicts another. */
                disagree?: boolean | null;
                /** @description Only results of the file with this SHA-256. */
                image_sha256?: string | null;
                /** @description Only results with this `is_fake`, whatever their verdict. Use `verdict` to filter by verdict. */
                is_fake?: boolean | null;
                /** @description Only results with this label. `none`: only results without a label. */
                label?: components["schemas"]["LabelIs"] | null;
                /** @description Only results of this model. */
                model?: string | null;
                /** @description Only images whose file says this of itself. */
                provenance?: components["schemas"]["Says"] | null;
                /** @description Only images whose name starts with this. */
                q?: string | null;
                /** @description Only images judged at this time or later. Needs a time zone. */
                since?: string | null;
                /** @description Only images judged before this time. Needs a time zone. */
                until?: string | null;
                /** @description Only results with this verdict. */
                verdict?: components["schemas"]["Verdict"] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Stream Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/csv": string;
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    exportHistoryJsonLines: {
        parameters: {
            query?: {
                /** @description Only images whose name contains this, in upper or lower case. */
                contains?: string | null;
                /** @description Only results of panels: `true` where one model says fake and another real, `false` where none contradicts another. */
                disagree?: boolean | null;
                /** @description Only results of the file with this SHA-256. */
                image_sha256?: string | null;
                /** @description Only results with this `is_fake`, whatever their verdict. Use `verdict` to filter by verdict. */
                is_fake?: boolean | null;
                /** @description Only results with this label. `none`: only results without a label. */
                label?: components["schemas"]["LabelIs"] | null;
                /** @description Only results of this model. */
                model?: string | null;
                /** @description Only images whose file says this of itself. */
                provenance?: components["schemas"]["Says"] | null;
                /** @description Only images whose name starts with this. */
                q?: string | null;
                /** @description Only images judged at this time or later. Needs a time zone. */
                since?: string | null;
                /** @description Only images judged before this time. Needs a time zone. */
                until?: string | null;
                /** @description Only results with this verdict. */
                verdict?: components["schemas"]["Verdict"] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Stream Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/jsonl": string;
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    labelResults: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BulkLabelRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Labelled"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    predict: {
        parameters: {
            query?: {
                /** @description Adds a heat map of where the score comes from. This takes many times as long. Answers 422 if the engine in use cannot explain scores. */
                explain?: boolean;
                /** @description Which frames of an animated GIF, WebP, PNG or AVIF are judged. `all` gives one verdict and each frame in `clip`. */
                frames?: "first" | "all";
                /** @description Name of the image. In a form, the file has its name. */
                name?: string;
                /** @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone. */
                panel?: string;
                /** @description How the opinions become one verdict. Default: `D3_PANEL_RULE`. */
                panel_rule?: "chief" | "any" | "majority";
                /** @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long. */
                stability?: boolean;
                /** @description Threshold of the verdict. Default: the model's threshold. */
                threshold?: number;
                /** @description Number of permutations to average. More take longer and show how certain the score is. */
                views?: number;
            };
            header?: {
                /** @description For 24 hours, the same key with the same request gets the same answer and stores no second result. Answers 422 if the key was used for another request, and 409 while the first request is being answered. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * @description Adds a heat map of where the score comes from. This takes many times as long. Answers 422 if the engine in use cannot explain scores.
                     * @default false
                     */
                    explain?: boolean | null;
                    /**
                     * @description Which frames of an animated GIF, WebP, PNG or AVIF are judged. `all` gives one verdict and each frame in `clip`.
                     * @default first
                     * @enum {string|null}
                     */
                    frames?: "first" | "all" | null;
                    /** @description The image's file in base64, instead of `url`. */
                    image_base64?: string | null;
                    /**
                     * @description Name of the image. In a form, the file has its name.
                     * @example photo.jpg
                     */
                    name?: string | null;
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string | null;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string|null}
                     */
                    panel_rule?: "chief" | "any" | "majority" | null;
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean | null;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number | null;
                    /**
                     * Format: uri
                     * @description A link to the image, instead of the file. Answers 403 unless the service has `D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.
                     */
                    url?: string | null;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number | null;
                };
                "application/octet-stream": Blob;
                "image/*": Blob;
                "multipart/form-data": {
                    /**
                     * @description Adds a heat map of where the score comes from. This takes many times as long. Answers 422 if the engine in use cannot explain scores.
                     * @default false
                     */
                    explain?: boolean;
                    /** Format: binary */
                    file?: Blob;
                    /**
                     * @description Which frames of an animated GIF, WebP, PNG or AVIF are judged. `all` gives one verdict and each frame in `clip`.
                     * @default first
                     * @enum {string}
                     */
                    frames?: "first" | "all";
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string}
                     */
                    panel_rule?: "chief" | "any" | "majority";
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number;
                    /**
                     * Format: uri
                     * @description A link to the image, instead of the file. Answers 403 unless the service has `D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.
                     */
                    url?: string;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Prediction"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    predictBatch: {
        parameters: {
            query?: never;
            header?: {
                /** @description For 24 hours, the same key with the same request gets the same answer and stores no second result. Answers 422 if the key was used for another request, and 409 while the first request is being answered. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": {
                    files: Blob[];
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string}
                     */
                    panel_rule?: "chief" | "any" | "majority";
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchPrediction"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    predictVideo: {
        parameters: {
            query?: never;
            header?: {
                /** @description For 24 hours, the same key with the same request gets the same answer and stores no second result. Answers 422 if the key was used for another request, and 409 while the first request is being answered. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": {
                    /**
                     * @description Address that is told when the job is over, as a webhook `job.finished`.
                     * @example https://example.net/hooks/d3
                     */
                    callback?: string;
                    /** @description Of a clip: seconds between the frames that are judged. */
                    every?: number;
                    /** Format: binary */
                    file: Blob;
                    /** @description Of a clip: the most frames that are judged. */
                    most?: number;
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string}
                     */
                    panel_rule?: "chief" | "any" | "majority";
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Prediction"];
                };
            };
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneJob"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getResult: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the result. */
                result_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneResult"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteResult: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the result. */
                result_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getEvidence: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the result. */
                result_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/zip": Blob;
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    labelResult: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the result. */
                result_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LabelRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneLabel"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listLabels: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the result. */
                result_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LabelList"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteResults: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BulkDeleteRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deleted"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getStatistics: {
        parameters: {
            query?: {
                /** @description Adds a `series` per hour or day, in UTC. */
                bucket?: "day" | "hour" | null;
                /** @description Only images whose name contains this, in upper or lower case. */
                contains?: string | null;
                /** @description Only results of panels: `true` where one model says fake and another real, `false` where none contradicts another. */
                disagree?: boolean | null;
                /** @description Adds `groups`: totals per model, label, provenance or agreement. */
                group?: components["schemas"]["GroupBy"] | null;
                /** @description Only results of the file with this SHA-256. */
                image_sha256?: string | null;
                /** @description Only results with this `is_fake`, whatever their verdict. Use `verdict` to filter by verdict. */
                is_fake?: boolean | null;
                /** @description Only results with this label. `none`: only results without a label. */
                label?: components["schemas"]["LabelIs"] | null;
                /** @description Only results of this model. */
                model?: string | null;
                /** @description Only images whose file says this of itself. */
                provenance?: components["schemas"]["Says"] | null;
                /** @description Only images whose name starts with this. */
                q?: string | null;
                /** @description Only images judged at this time or later. Needs a time zone. */
                since?: string | null;
                /** @description Only images judged before this time. Needs a time zone. */
                until?: string | null;
                /** @description Only results with this verdict. */
                verdict?: components["schemas"]["Verdict"] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Stats"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listJobs: {
        parameters: {
            query?: {
                /** @description Number of items per page. */
                limit?: number;
                /** @description Number of jobs to skip. */
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    startJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description For 24 hours, the same key with the same request gets the same answer and stores no second result. Answers 422 if the key was used for another request, and 409 while the first request is being answered. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * @description Address that is told when the job is over, as a webhook `job.finished`.
                     * @example https://example.net/hooks/d3
                     */
                    callback?: string;
                    /** @description Of a clip: seconds between the frames that are judged. */
                    every?: number;
                    /** @description Each with either `url` or `s3`. */
                    items: {
                        /** @description Your own id of it. */
                        external_id?: string;
                        /** @description Name for display. */
                        name?: string;
                        /** @description `s3://BUCKET/KEY`, below one of `D3_JOB_SOURCES`. */
                        s3?: string;
                        /**
                         * Format: uri
                         * @description A link to the image, instead of the file. Answers 403 unless the service has `D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.
                         */
                        url?: string;
                    }[];
                    /** @description Of a clip: the most frames that are judged. */
                    most?: number;
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string}
                     */
                    panel_rule?: "chief" | "any" | "majority";
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
                "multipart/form-data": {
                    /**
                     * @description Address that is told when the job is over, as a webhook `job.finished`.
                     * @example https://example.net/hooks/d3
                     */
                    callback?: string;
                    /** @description Of a clip: seconds between the frames that are judged. */
                    every?: number;
                    /** @description Your own id of each file, in the order of the files. None, or as many as files. */
                    external_id?: string[];
                    files: Blob[];
                    /** @description Of a clip: the most frames that are judged. */
                    most?: number;
                    /**
                     * @description Names of models that judge together, separated by commas, the chief first. They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One name: that model alone.
                     * @example d3-vit-l14,ferretnet-s
                     */
                    panel?: string;
                    /**
                     * @description How the opinions become one verdict. Default: `D3_PANEL_RULE`.
                     * @enum {string}
                     */
                    panel_rule?: "chief" | "any" | "majority";
                    /**
                     * @description Judges the image again after harmless changes (JPEG, scaled, cropped, mirrored). The verdict is `uncertain` if one of them turns it. This takes about five times as long.
                     * @default false
                     */
                    stability?: boolean;
                    /**
                     * @description Threshold of the verdict. Default: the model's threshold.
                     * @example 0.5
                     */
                    threshold?: number;
                    /**
                     * @description Number of permutations to average. More take longer and show how certain the score is.
                     * @default 1
                     */
                    views?: number;
                };
            };
        };
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneJob"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getJob: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page. */
                cursor?: string | null;
                /** @description Number of items per page. */
                limit?: number;
            };
            header?: never;
            path: {
                /** @description The `id` of the job. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobResults"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancelJob: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the job. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneJob"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getModelInfo: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelInfo"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listModels: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelList"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    loadModel: {
        parameters: {
            query?: {
                /** @description Name of the model. Default: the default model. */
                name?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelLoaded"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    unloadModel: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    uploadModel: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": {
                    /**
                     * @description What the file is of: a head of d3 or ufd, or the only file of another architecture, such as ferretnet. Default: d3.
                     * @example ferretnet
                     */
                    architecture?: string;
                    /** Format: binary */
                    file: Blob;
                    /**
                     * @description Name of the model. Default: the name of the file.
                     * @example classifier.pth
                     */
                    name?: string;
                };
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Uploaded"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unsupported Media Type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listScans: {
        parameters: {
            query?: {
                /** @description Number of items per page. */
                limit?: number;
                /** @description Number of scans to skip. */
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ScanPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    startScan: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ScanRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneScan"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Entity */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getScan: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the scan. */
                scan_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneScan"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancelScan: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the scan. */
                scan_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneScan"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listScanResults: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page. */
                cursor?: string | null;
                /** @description Only images on which models of the panel contradict each other (`true`), or on which they do not (`false`). */
                disagree?: boolean | null;
                /** @description Number of items per page. */
                limit?: number;
            };
            header?: never;
            path: {
                /** @description The `id` of the scan. */
                scan_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ScanResultPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listWebhooks: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookList"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    createWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WebhookRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewSecret"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneWebhook"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    removeWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Done"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    changeWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WebhookChange"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneWebhook"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Timeout */
            408: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Request Entity Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listWebhookDeliveries: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page. */
                cursor?: string | null;
                /** @description Number of items per page. */
                limit?: number;
                /** @description Only deliveries in this state. */
                only?: components["schemas"]["DeliveryState"] | null;
            };
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rotateWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewSecret"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    testWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the webhook. */
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneDelivery"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listDeliveries: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page. */
                cursor?: string | null;
                /** @description Number of items per page. */
                limit?: number;
                /** @description Only deliveries in this state. */
                only?: components["schemas"]["DeliveryState"] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryPage"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    resendDelivery: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The `id` of the delivery. */
                delivery_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OneDelivery"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getLiveness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getReadiness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not ready */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
        };
    };
    getMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
