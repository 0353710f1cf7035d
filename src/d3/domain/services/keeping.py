"""From judged uploads to kept rows without a stop between: whoever waits is woken once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from d3.domain.errors import D3Error
from d3.domain.idempotency import Completion
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.inference import Judged

Outcome = Judged | D3Error


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a request's uploads.

    Attributes:
        outcomes: of each upload, in order.
        ids: of the rows kept, in the order of the outcomes that were judged.
    """

    outcomes: Sequence[Outcome]
    ids: Sequence[int]

    def raise_first(self) -> None:
        """Raise the error of the first upload that could not be judged, if there is one."""
        for outcome in self.outcomes:
            if isinstance(outcome, D3Error):
                raise outcome


def keep(
    judging: Future[list[Outcome]],
    writer: HistoryWriter,
    *,
    all_or_nothing: bool,
    completion: Callable[[Sequence[Outcome]], Completion] | None = None,
) -> Future[Kept]:
    """Have the results written as soon as they are there; the future is done after the commit.

    Cancelling it cancels ``judging``; what is being written already is kept all the same.

    Args:
        judging: of :meth:`d3.domain.services.inference.InferenceService.judge`.
        writer: of the history.
        all_or_nothing: whether one upload that cannot be judged keeps the others' rows away too.
        completion: an idempotency key's answer to these outcomes, kept in the same transaction.

    The future raises what ``judging`` raises, and what
    :meth:`d3.domain.services.history_writer.HistoryWriter.submit` and its future raise.
    """
    kept: Future[Kept] = Future()

    def write(judged: Future[list[Outcome]]) -> None:
        if not kept.set_running_or_notify_cancel():
            return
        try:
            outcomes = judged.result()
            entries = [outcome.entry for outcome in outcomes if isinstance(outcome, Judged)]
            spoilt = all_or_nothing and len(entries) < len(outcomes)
            if spoilt or not (entries or completion):
                kept.set_result(Kept(outcomes, ()))
                return
            writing = writer.submit(entries, completion(outcomes) if completion else None)
        except BaseException as error:  # noqa: BLE001  nobody else would hear of it
            kept.set_exception(error)
            return
        writing.add_done_callback(lambda written: finish(outcomes, written))

    def finish(outcomes: Sequence[Outcome], written: Future[list[int]]) -> None:
        if (error := written.exception()) is not None:
            kept.set_exception(error)
        else:
            kept.set_result(Kept(outcomes, written.result()))

    kept.add_done_callback(lambda _: judging.cancel())  # where it is not done
    judging.add_done_callback(write)
    return kept
