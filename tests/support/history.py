"""What every history must keep to: a contract suite for whoever writes an adapter.

::

    class TestMyHistory(HistoryContract):
        @pytest.fixture
        def history(self):
            return MyHistory(...)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from d3.domain.errors import (
    CursorInvalid,
    IdempotencyKeyReused,
    RequestInFlight,
    RequestInvalid,
    ReservationLost,
    ResultNotFound,
)
from d3.domain.history import (
    JUDGING,
    AgreementCounts,
    BucketSize,
    Failures,
    GroupBy,
    HistoryEntry,
    HistoryFilter,
    NewEntry,
    RequestRecord,
    Tally,
    VerdictCounts,
)
from d3.domain.idempotency import KEPT, LEASE, IdempotencyKey, Reservation, StoredAnswer
from d3.domain.images import ImageFacts, Note
from d3.domain.models import ModelReference
from d3.domain.ordering import Order, SortKey
from d3.domain.panels import Agreement, Opinion, PanelRule, PanelVerdict
from d3.domain.ports.history import History
from d3.domain.records import image_fields
from d3.domain.scoring import Reason, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = HistoryFilter()
ORDERS = [Order(by, descending) for by in SortKey for descending in (True, False)]
"""Every order that a history can be asked for."""


def an_entry(name: str = "photo.jpg", **changes: Any) -> NewEntry:
    """A complete entry to keep.

    ``image`` and ``model`` stand for all their fields, None for nothing recorded of them;
    ``model="name"`` is short for a whole reference.
    """
    image = changes.pop("image", ImageFacts("JPEG", 640, 427, 1, 2**40, "a" * 64))
    model = changes.pop("model", ModelReference("starter", 2, "b" * 64))
    if isinstance(model, str):
        model = ModelReference(model, 1, "b" * 64)
    values: dict[str, Any] = {
        "prediction": 0.75,
        "is_fake": True,
        "confidence": 0.5,
        "threshold": 0.5,
        "processing_time": 0.125,
        "created_at": NOON,
        "verdict": Verdict.FAKE,
        "logit": 1.0986122886681098,
        "views": 4,
        "spread": 0.0625,
        "engine": "torch",
        "precision": "fp32",
        "calibration_name": "temperature",
        "calibration_scale": 1.5,
        "calibration_bias": -0.25,
        "abstain_below": 0.1,
        "abstain_above": 0.2,
        "cached": True,
        "d3_version": "0.1.0",
        "request_id": "01HXYZ",
    }
    if image is not None:
        values |= image_fields(image)
    if model is not None:
        values |= {f"model_{part}": value for part, value in asdict(model).items()}
    return NewEntry(image_name=name, **(values | changes))


def a_real_entry(name: str = "photo.jpg", **changes: Any) -> NewEntry:
    """Likewise, of an image judged real."""
    judged: dict[str, Any] = {"prediction": 0.25, "is_fake": False, "verdict": Verdict.REAL}
    return an_entry(name, **(judged | changes))


def a_panel(*verdicts: Verdict) -> PanelVerdict:
    """What a panel said whose models, the chief first, have these verdicts."""
    numbers = {Verdict.FAKE: 0.75, Verdict.REAL: 0.25, Verdict.UNCERTAIN: 0.5}
    opinions = (
        Opinion(
            model=ModelReference("starter" if n == 0 else f"other-{n}", 2, "b" * 64),
            prediction=numbers[verdict],
            verdict=verdict,
            reason=Reason.ABSTAIN_BAND if verdict is Verdict.UNCERTAIN else None,
            threshold=0.5,
            logit=math.log(numbers[verdict] / (1 - numbers[verdict])),
            calibration="news",
            calibrated=True,
            seconds=0.125,
            abstain_below=0.125,
            abstain_above=0.125,
            engine="torch",
            precision="fp32",
            device="cpu",
        )
        for n, verdict in enumerate(verdicts)
    )
    return PanelVerdict(PanelRule.CHIEF, tuple(opinions))


class HistoryContract:
    """Each test is a promise of :class:`d3.domain.ports.history.History`."""

    @pytest.fixture
    def history(self) -> History:
        """An empty history; to be given by the adapter's own class."""
        raise NotImplementedError

    @pytest.fixture
    def accounts(self, history: History) -> tuple[int, int]:
        """Two accounts' ids that entries may name; for stores that know their accounts."""
        del history
        return 1, 2

    def test_an_entry_comes_back_as_it_went(self, history: History) -> None:
        (id_,) = history.add_many([an_entry()])
        _same(history.get(id_), an_entry(), id_)

    def test_what_was_never_recorded_comes_back_as_nothing(self, history: History) -> None:
        sparse = an_entry(logit=None, image=None, model=None, request_id=None)
        (id_,) = history.add_many([sparse])
        _same(history.get(id_), sparse, id_)

    @pytest.mark.parametrize("reason", [*Reason, None])
    def test_reason_and_notice_come_back_as_they_went(
        self, history: History, reason: Reason | None
    ) -> None:
        notice = "Demo model: calls 9 of 100 real photographs fake. Do not act on it."
        verdict = Verdict.FAKE if reason is None else Verdict.UNCERTAIN
        entry = an_entry(verdict=verdict, reason=reason, notice=notice)
        (id_,) = history.add_many([entry])
        _same(history.get(id_), entry, id_)
        assert history.get(id_).reason_text == (reason and reason.sentence)

    @pytest.mark.parametrize("note", [*Note, None])
    def test_a_note_about_the_file_comes_back_as_it_went(
        self, history: History, note: Note | None
    ) -> None:
        entry = an_entry(image=ImageFacts("TIFF", 64, 48, 7, 99, "a" * 64, note=note))
        (id_,) = history.add_many([entry])
        _same(history.get(id_), entry, id_)

    def test_a_notice_of_any_text_is_kept(self, history: History) -> None:
        for text in ("a\0b", "lone \ud800", "n" * 4000, "日本 🦄"):
            entry = an_entry(notice=text)
            (id_,) = history.add_many([entry])
            assert history.get(id_).notice == entry.notice

    @pytest.mark.parametrize("bucket", [None, *BucketSize])
    def test_verdicts_are_counted_as_they_were_said(
        self, history: History, bucket: BucketSize | None
    ) -> None:
        history.add_many(
            [
                *(an_entry(created_at=_at(hours=n)) for n in range(3)),
                *(a_real_entry(created_at=_at(hours=n), notice="Demo.") for n in range(2)),
                an_entry(verdict=Verdict.UNCERTAIN),
                a_real_entry(verdict=Verdict.UNCERTAIN, created_at=_at(days=1), notice="Demo."),
            ]
        )
        reported = history.statistics(ALL, bucket)
        assert reported.by_verdict == VerdictCounts(fake=3, real=2, uncertain=2)
        assert (reported.total_fake, reported.total_real, reported.demo) == (4, 3, 3)
        parts = reported.series if reported.series is not None else (reported,)
        for name in ("fake", "real", "uncertain"):
            number = sum(getattr(one.by_verdict, name) for one in parts)
            assert number == getattr(reported.by_verdict, name)
        assert sum(one.demo for one in parts) == reported.demo
        none = history.statistics(HistoryFilter(model="nobody's"), bucket)
        assert (none.by_verdict, none.demo) == (VerdictCounts(), 0)

    def test_what_a_panel_said_comes_back_as_it_went(self, history: History) -> None:
        said = a_panel(Verdict.FAKE, Verdict.REAL)
        entry = an_entry(
            panel=said.to_json(), agreement=said.agreement, stability_probabilities='{"jpeg":0.25}'
        )
        (id_,) = history.add_many([entry])
        _same(history.get(id_), entry, id_)
        assert history.get(id_).panel_verdict == said
        assert history.get(id_).stability == {"jpeg": 0.25}

    @pytest.mark.parametrize("disagree", [True, False])
    def test_panels_are_found_by_whether_their_models_disagree(
        self, history: History, *, disagree: bool
    ) -> None:
        said = (None, *Agreement, Agreement.DISAGREE)
        ids = history.add_many([an_entry(agreement=one) for one in said])
        where = HistoryFilter(disagree=disagree)
        wanted = [3, 4] if disagree else [1, 2]
        assert [one.id for one in history.iterate(where)] == [ids[n] for n in reversed(wanted)]
        assert history.page(where, 1).total == 2
        assert history.statistics(where).total_inferences == 2

    @pytest.mark.parametrize("bucket", [None, *BucketSize])
    def test_panels_are_counted_by_agreement(
        self, history: History, bucket: BucketSize | None
    ) -> None:
        numbers = dict(zip((None, *Agreement), (1, 2, 3, 4), strict=True))
        history.add_many(
            [
                an_entry(agreement=one, created_at=_at(hours=n))
                for one, number in numbers.items()
                for n in range(number)
            ]
        )
        reported = history.statistics(ALL, bucket)
        assert reported.agreement == AgreementCounts(agree=2, partial=3, disagree=4)
        assert sum(one.agreement.total for one in reported.series or (reported,)) == 9
        groups = history.breakdown(ALL, GroupBy.AGREEMENT)
        counted = {name: one.total_inferences for name, one in groups.items()}
        assert counted == {"disagree": 4, "partial": 3, "agree": 2, None: 1}
        nobody = history.statistics(HistoryFilter(model="nobody's"), bucket)
        assert nobody.agreement == AgreementCounts()

    def test_ids_come_in_the_order_of_the_entries(self, history: History) -> None:
        ids = history.add_many([an_entry(f"{n}.png") for n in range(2500)])
        assert ids == sorted(set(ids))
        assert [history.get(ids[n]).image_name for n in (0, 1, 999, 1000, 2499)] == [
            *("0.png", "1.png", "999.png", "1000.png", "2499.png")
        ]

    def test_no_entries_give_no_ids(self, history: History) -> None:
        assert history.add_many([]) == []

    def test_an_id_is_never_given_twice(self, history: History) -> None:
        first, second = history.add_many([an_entry(), an_entry()])
        history.delete(second)
        (third,) = history.add_many([an_entry()])
        assert third not in {first, second}

    def test_a_time_is_kept_to_the_microsecond_and_told_in_utc(self, history: History) -> None:
        there = timezone(timedelta(hours=5, minutes=30))
        moment = datetime(2026, 1, 1, 3, 0, 0, 123456, tzinfo=there)
        (id_,) = history.add_many([an_entry(created_at=moment)])
        kept = history.get(id_).created_at
        assert kept == moment
        assert kept.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        "text", ["a\0b.png", "lone \ud800.png", "n" * 4000, "日本 🦄 \u202e.png"]
    )
    def test_any_text_can_be_kept(self, history: History, text: str) -> None:
        entry = an_entry(text, request_id=text, engine=text, d3_version=text)
        (id_,) = history.add_many([entry])
        kept = history.get(id_).image_name
        assert len(kept) <= 255
        assert kept == entry.image_name
        assert history.page(HistoryFilter(q=text[:200]), 1).total == 1

    @pytest.mark.parametrize("id_", [-1, 0, 1, 2**63 - 1, 2**63, 2**70])
    def test_what_is_not_there_is_not_found(self, history: History, id_: int) -> None:
        with pytest.raises(ResultNotFound):
            history.get(id_)
        with pytest.raises(ResultNotFound):
            history.delete(id_)

    def test_a_deleted_entry_is_gone_from_everything(self, history: History) -> None:
        versions_to_remove, kept = history.add_many([an_entry(), an_entry()])
        history.delete(versions_to_remove)
        with pytest.raises(ResultNotFound):
            history.get(versions_to_remove)
        assert [entry.id for entry in history.page(ALL, 10).entries] == [kept]
        assert history.statistics(ALL).total_inferences == 1

    def test_another_accounts_entry_is_not_found(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        mine, yours = accounts
        (id_,) = history.add_many([an_entry(user_id=mine)])
        with pytest.raises(ResultNotFound):
            history.get(id_, user_id=yours)
        with pytest.raises(ResultNotFound):
            history.delete(id_, user_id=yours)
        assert history.get(id_, user_id=mine).user_id == mine
        history.delete(id_, user_id=mine)

    def test_the_newest_comes_first_and_of_one_moment_the_highest_id(
        self, history: History
    ) -> None:
        minutes = [3, 1, 2, 1, 3]
        ids = history.add_many([an_entry(created_at=_at(minutes=n)) for n in minutes])
        reported = [entry.id for entry in history.page(ALL, 10).entries]
        assert reported == [ids[4], ids[0], ids[2], ids[3], ids[1]]
        assert [entry.id for entry in history.page_after(ALL, 10).entries] == reported
        assert [entry.id for entry in history.iterate(ALL)] == reported

    def test_pages_by_offset_make_up_the_whole(self, history: History) -> None:
        ids = history.add_many([an_entry(created_at=_at(minutes=n)) for n in range(7)])
        pages = [history.page(ALL, 3, offset) for offset in (0, 3, 6, 9)]
        assert [page.total for page in pages] == [7, 7, 7, 7]
        assert [entry.id for page in pages for entry in page.entries] == ids[::-1]

    @pytest.mark.parametrize("limit", [0, -1, 501, 10**9, True, 2.0])
    def test_a_senseless_limit_is_refused(self, history: History, limit: int) -> None:
        with pytest.raises(RequestInvalid):
            history.page(ALL, limit)
        with pytest.raises(RequestInvalid):
            history.page_after(ALL, limit)

    @pytest.mark.parametrize("offset", [-1, 2**63, False, 0.5])
    def test_a_senseless_offset_is_refused(self, history: History, offset: int) -> None:
        with pytest.raises(RequestInvalid):
            history.page(ALL, 1, offset)

    def test_an_offset_beyond_the_end_gives_an_empty_page(self, history: History) -> None:
        history.add_many([an_entry()])
        page = history.page(ALL, 1, 2**63 - 1)
        assert (page.entries, page.total) == ((), 1)

    def test_cursor_pages_make_up_the_whole_while_entries_arrive_and_go(
        self, history: History
    ) -> None:
        ids = history.add_many([an_entry(created_at=_at(minutes=n // 3)) for n in range(20)])
        met: list[int] = []
        cursor = None
        for turn in range(100):
            page = history.page_after(ALL, 3, cursor)
            met += [entry.id for entry in page.entries]
            cursor = page.next_cursor
            if cursor is None:
                break
            history.add_many([an_entry(created_at=_at(hours=1, minutes=turn))])
            history.delete(met[-1])  # where the cursor stands
        assert met == ids[::-1]

    @pytest.mark.parametrize("order", ORDERS, ids=lambda one: f"{one.by}-{one.descending}")
    def test_every_order_is_paged_right_while_entries_arrive_and_go(
        self, history: History, order: Order
    ) -> None:
        predictions = [0.1, math.nextafter(0.1, 1), 0.0, 1.0, 0.1]
        names = ["b", "B", "a", "é", "日", "🦄", "b"]
        history.add_many(
            [
                an_entry(names[n % 7], prediction=predictions[n % 5], created_at=_at(minutes=n % 3))
                for n in range(30)
            ]
        )
        wanted = sorted(history.iterate(ALL), key=order.place_of, reverse=order.descending)
        pages = [history.page(ALL, 11, offset, order) for offset in (0, 11, 22)]
        assert [entry for page in pages for entry in page.entries] == wanted
        few = HistoryFilter(q="b")
        assert list(history.page(few, 500, order=order).entries) == [
            entry for entry in wanted if few.matches(entry)
        ]
        met: list[HistoryEntry] = []
        cursor = None
        for turn in range(100):
            page = history.page_after(ALL, 4, cursor, order)
            met += page.entries
            cursor = page.next_cursor
            if cursor is None:
                break
            history.add_many([an_entry("c", prediction=0.05, created_at=_at(hours=1 + turn))])
            history.delete(met[-1].id)  # where the cursor stands
        known = {entry.id for entry in wanted}
        assert [entry for entry in met if entry.id in known] == wanted
        assert len({entry.id for entry in met}) == len(met)

    def test_a_cursor_of_another_order_is_refused(self, history: History) -> None:
        history.add_many([an_entry(), an_entry()])
        for order in ORDERS:
            cursor = history.page_after(ALL, 1, None, order).next_cursor
            for other in ORDERS:
                if other != order:
                    with pytest.raises(CursorInvalid):
                        history.page_after(ALL, 1, cursor, other)

    def test_the_last_page_has_no_cursor(self, history: History) -> None:
        history.add_many([an_entry(), an_entry()])
        assert history.page_after(ALL, 2).next_cursor is None
        assert history.page_after(ALL, 1).next_cursor is not None
        assert history.page_after(HistoryFilter(is_fake=False), 1).next_cursor is None

    def test_a_cursor_that_was_not_handed_out_for_this_is_refused(self, history: History) -> None:
        history.add_many([an_entry(), an_entry()])
        good = history.page_after(ALL, 1).next_cursor
        assert good is not None
        changed = [
            good[:at] + ("A" if c != "A" else "B") + good[at + 1 :] for at, c in enumerate(good)
        ]
        for bad in [*changed, "", "x", good + "=", good + "A", good[:-1], "ü", "\0", good * 1000]:
            with pytest.raises(CursorInvalid):
                history.page_after(ALL, 1, bad)
        with pytest.raises(CursorInvalid):
            history.page_after(HistoryFilter(is_fake=True), 1, good)

    def test_filters_find_what_they_say(self, history: History, accounts: tuple[int, int]) -> None:
        mine, yours = accounts
        entries = [
            make(name, created_at=_at(minutes=minute), model=model, user_id=user)
            for minute, (make, name, model, user) in enumerate(
                (make, name, model, user)
                for make in (an_entry, a_real_entry)
                for name in ("a.jpg", "b.jpg")
                for model in ("starter", "d3-vit-l14")
                for user in (mine, yours, None)
            )
        ]
        history.add_many([*entries, an_entry(verdict=Verdict.UNCERTAIN, created_at=_at(days=-1))])
        for where in (
            HistoryFilter(is_fake=True),
            HistoryFilter(is_fake=False),
            HistoryFilter(verdict=Verdict.UNCERTAIN),
            HistoryFilter(verdict=Verdict.REAL, is_fake=True),
            HistoryFilter(model="starter"),
            HistoryFilter(model="start"),
            HistoryFilter(user_id=mine),
            HistoryFilter(user_id=mine, is_fake=False, model="d3-vit-l14", q="b"),
            HistoryFilter(since=_at(minutes=3), until=_at(minutes=9)),
            HistoryFilter(since=_at(minutes=9), until=_at(minutes=3)),
            HistoryFilter(until=NOON, verdict=Verdict.UNCERTAIN),
        ):
            found = list(history.iterate(where))
            everything = list(history.iterate(ALL))
            assert found == [entry for entry in everything if where.matches(entry)], where
            assert history.page(where, 500).entries == tuple(found), where
            assert history.page(where, 500).total == len(found), where
            assert history.page_after(where, 500).entries == tuple(found), where
            assert history.statistics(where).total_inferences == len(found), where
            assert _series_total(history, where) == len(found), where

    def test_since_is_inside_and_until_is_not(self, history: History) -> None:
        tick = timedelta(microseconds=1)
        history.add_many([an_entry(created_at=at) for at in (NOON - tick, NOON, NOON + tick)])
        elsewhere = NOON.astimezone(timezone(timedelta(hours=-8)))
        assert history.page(HistoryFilter(since=elsewhere), 9).total == 2
        assert history.page(HistoryFilter(until=elsewhere), 9).total == 1
        assert history.page(HistoryFilter(since=NOON, until=NOON + tick), 9).total == 1

    @pytest.mark.parametrize(
        "q",
        [
            *("", "a", "A", "ab", "a%", "a_", "%", "_", "a\\", "'", '"', "é", "e", "É", "日", "🦄"),
            *("\U0010ffff", "a\U0010ffff", "\ud7ff", "\ue000", "z", "a\0", "*", "a*", "[", "  "),
        ],
    )
    def test_a_prefix_is_taken_letter_by_letter(self, history: History, q: str) -> None:
        names = [
            *("a", "A", "ab", "aB", "a%b", "a_b", "axb", "a\\b", "'", '"', "é", "e\u0301", "É"),
            *(
                "日本",
                "日",
                "🦄.png",
                "\U0010ffff",
                "a\U0010ffff",
                "a\U0010ffffb",
                "\ud7ff",
                "\ue000",
            ),
            *("\ud7ffz", "a\0b", "", " a", "  ", "*", "a*", "[a]", "%", "_"),
        ]
        history.add_many([an_entry(name) for name in names])
        where = HistoryFilter(q=q)
        found = {entry.image_name for entry in history.iterate(where)}
        assert found == {e.image_name for e in history.iterate(ALL) if where.matches(e)}
        assert history.page(where, 500).total == len(history.page(where, 500).entries)
        assert history.statistics(where).total_inferences == _series_total(history, where)

    def test_nothing_counts_as_nothing(self, history: History) -> None:
        reported = history.statistics(ALL, BucketSize.DAY)
        assert _figures(reported) == (0, 0, 0, 0.0, 0.0)
        assert reported.series == ()
        assert history.statistics(ALL).series is None

    def test_statistics_count_and_average(self, history: History) -> None:
        history.add_many([an_entry(processing_time=0.1) for _ in range(6)])
        history.add_many([a_real_entry(processing_time=0.225) for _ in range(4)])
        for reported in (history.statistics(ALL), history.statistics(ALL, BucketSize.HOUR)):
            assert _figures(reported) == pytest.approx((10, 6, 4, 60.0, 0.15))

    def test_a_series_is_cut_where_the_day_begins_in_utc(self, history: History) -> None:
        midnight = datetime(2026, 3, 1, tzinfo=UTC)
        tick = timedelta(microseconds=1)
        moments = [midnight - tick, midnight, midnight + timedelta(hours=24) - tick]
        moments += [midnight + timedelta(days=1), datetime(2024, 2, 29, 23, 59, tzinfo=UTC)]
        tokyo = timezone(timedelta(hours=9))
        history.add_many([an_entry(created_at=moment.astimezone(tokyo)) for moment in moments])
        series = history.statistics(ALL, BucketSize.DAY).series
        assert series is not None
        assert [(bucket.start, bucket.total_inferences) for bucket in series] == [
            (datetime(2024, 2, 29, tzinfo=UTC), 1),
            (midnight - timedelta(days=1), 1),
            (midnight, 2),
            (midnight + timedelta(days=1), 1),
        ]

    def test_a_series_by_hours_holds_only_hours_with_something(self, history: History) -> None:
        history.add_many([an_entry(created_at=_at(minutes=n)) for n in (0, 59, 60, 600)])
        where = HistoryFilter(since=_at(minutes=1))
        series = history.statistics(where, BucketSize.HOUR).series
        assert series is not None
        assert [(bucket.start, bucket.total_inferences) for bucket in series] == [
            (NOON, 1),
            (_at(hours=1), 1),
            (_at(hours=10), 1),
        ]

    def test_scores_and_times_are_laid_out_over_all_that_matches(self, history: History) -> None:
        scores = [0.0, 0.049999, 0.05, 0.5, 0.999, 1.0, 1.0]
        for n, score in enumerate(scores):
            history.add_many([an_entry(prediction=score, processing_time=(7 - n) / 8)])
        history.add_many([an_entry(prediction=0.3, processing_time=9.0, created_at=_at(days=1))])
        where = HistoryFilter(until=_at(hours=1))
        reported = history.distribution(where, 20)
        assert [(n, count) for n, count in enumerate(reported.scores) if count] == [
            *((0, 2), (1, 1), (10, 1), (19, 3)),
        ]
        assert (reported.p50, reported.p95) == (4 / 8, 7 / 8)
        assert history.distribution(ALL, 1).scores == (8,)

    @pytest.mark.parametrize("total", [1, 2, 19, 20, 21, 100])
    def test_quantiles_are_values_that_were_measured(self, history: History, total: int) -> None:
        history.add_many([an_entry(processing_time=n / 64) for n in range(1, total + 1)])
        reported = history.distribution(ALL, 4)
        assert reported.p50 == math.ceil(total / 2) / 64
        assert reported.p95 == math.ceil(0.95 * total) / 64

    def test_nothing_lies_nowhere(self, history: History) -> None:
        reported = history.distribution(ALL, 4)
        assert (reported.scores, reported.p50, reported.p95) == ((0, 0, 0, 0), None, None)
        assert history.failures(ALL, BucketSize.DAY) == []

    def test_failed_requests_to_judge_are_counted_by_day_and_hour(self, history: History) -> None:
        predict, batch, *_ = JUDGING
        records = [
            _record(endpoint=predict, status_code=200),
            _record(endpoint=predict, status_code=415),
            _record(endpoint=batch, status_code=503),
            _record(endpoint=predict, status_code=500, created_at=_at(hours=1)),
            _record(endpoint=predict, status_code=404, created_at=_at(days=1)),
            _record(endpoint="/api/inference/history", status_code=500),
        ]
        with history.transaction() as transaction:
            transaction.log_many(records)
        midnight = NOON.replace(hour=0)
        assert history.failures(ALL, BucketSize.DAY) == [
            Failures(start=midnight, refused=1, failed=2),
            Failures(start=midnight + timedelta(days=1), refused=1, failed=0),
        ]
        within = HistoryFilter(since=_at(minutes=-1), until=_at(hours=2))
        assert history.failures(within, BucketSize.HOUR) == [
            Failures(start=NOON, refused=1, failed=1),
            Failures(start=_at(hours=1), refused=0, failed=1),
        ]
        assert history.failures(HistoryFilter(user_id=77), BucketSize.DAY) == []

    def test_what_fails_undoes_all_of_its_transaction(self, history: History) -> None:
        with pytest.raises(ZeroDivisionError), history.transaction() as transaction:  # noqa: PT012
            transaction.add_many([an_entry()])
            transaction.log_many([_record()])
            transaction.reserve(_key(), NOON)
            raise ZeroDivisionError
        assert history.page(ALL, 1).total == 0
        with history.transaction() as transaction:
            assert isinstance(transaction.reserve(_key("other"), NOON), Reservation)

    def test_entries_records_and_keys_share_a_transaction(self, history: History) -> None:
        with history.transaction() as transaction:
            transaction.log_many([_record(), _record(ip_address=None, request_id="\0\ud800")])
            transaction.log_many([])
            (id_,) = transaction.add_many([an_entry()])
        assert history.get(id_).id == id_

    def test_an_answered_key_gives_its_answer_again(self, history: History) -> None:
        held = _reserve(history)
        _complete(history, held, b'{"inference_id": 7}')
        assert _reserve(history) == StoredAnswer(b'{"inference_id": 7}')

    def test_a_key_with_another_request_is_refused(self, history: History) -> None:
        held = _reserve(history)
        with pytest.raises(IdempotencyKeyReused):
            _reserve(history, _key("other"))
        _complete(history, held)
        with pytest.raises(IdempotencyKeyReused):
            _reserve(history, _key("other"))

    def test_a_key_being_answered_is_in_flight(self, history: History) -> None:
        _reserve(history)
        with pytest.raises(RequestInFlight) as refusal:
            _reserve(history, now=NOON + LEASE / 4)
        assert refusal.value.retry_after == (LEASE * 3 / 4).total_seconds()

    def test_each_owner_has_keys_of_their_own(self, history: History) -> None:
        for owner in (0, 1, 2):
            assert isinstance(_reserve(history, _key(owner=owner)), Reservation)

    def test_a_key_given_back_can_be_reserved_again(self, history: History) -> None:
        held = _reserve(history)
        assert isinstance(held, Reservation)
        with history.transaction() as transaction:
            transaction.release(held)
        assert isinstance(_reserve(history, _key("other")), Reservation)

    def test_an_answered_key_cannot_be_given_back(self, history: History) -> None:
        held = _reserve(history)
        _complete(history, held)
        assert isinstance(held, Reservation)
        with history.transaction() as transaction:
            transaction.release(held)
        assert isinstance(_reserve(history), StoredAnswer)

    def test_a_dead_requests_key_is_taken_over_and_its_work_undone(self, history: History) -> None:
        dead = _reserve(history)
        later = NOON + LEASE
        alive = _reserve(history, now=later)
        assert isinstance(dead, Reservation)
        assert isinstance(alive, Reservation)
        with pytest.raises(ReservationLost), history.transaction() as transaction:  # noqa: PT012
            transaction.add_many([an_entry()])
            transaction.complete(dead, b"late", [], later)
        with history.transaction() as transaction:
            transaction.release(dead)
        _complete(history, alive, b"right", later)
        assert _reserve(history, now=later) == StoredAnswer(b"right")
        assert history.page(ALL, 1).total == 0

    def test_an_answer_is_kept_for_a_day(self, history: History) -> None:
        _complete(history, _reserve(history))
        tick = timedelta(microseconds=1)
        assert isinstance(_reserve(history, now=NOON + KEPT - tick), StoredAnswer)
        assert isinstance(_reserve(history, _key("other"), NOON + KEPT), Reservation)

    def test_a_deleted_entry_takes_the_answers_along_that_tell_of_it(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        ids = history.add_many([an_entry(user_id=accounts[0]) for _ in range(3)])
        for name, reported in (("first", ids[:1]), ("batch", ids), ("last", ids[2:])):
            key = _key(key=name, owner=accounts[0])
            _complete(history, _reserve(history, key), ids=reported)
        history.delete(ids[1])
        for name, kept in (("first", StoredAnswer), ("batch", Reservation), ("last", StoredAnswer)):
            assert isinstance(_reserve(history, _key(key=name, owner=accounts[0])), kept)

    def test_a_lease_is_prolonged_for_whoever_holds_it(self, history: History) -> None:
        held = _reserve(history)
        assert isinstance(held, Reservation)
        stranger = Reservation(held.owner, held.key, "stranger")
        later = NOON + LEASE / 2
        with history.transaction() as transaction:
            transaction.renew([], later)
            transaction.renew([stranger], later + LEASE)
            transaction.renew([held], later)
        with pytest.raises(RequestInFlight):
            _reserve(history, now=NOON + LEASE)
        assert isinstance(_reserve(history, _key("other"), later + LEASE), Reservation)

    def test_an_answer_is_not_renewed(self, history: History) -> None:
        held = _reserve(history)
        _complete(history, held)
        assert isinstance(held, Reservation)
        with history.transaction() as transaction:
            transaction.renew([held], NOON + KEPT)
        assert isinstance(_reserve(history, _key("other"), NOON + KEPT), Reservation)

    def test_whether_it_can_be_written_is_tried_and_leaves_nothing(self, history: History) -> None:
        history.check_writable()
        history.check_writable()
        assert history.page(ALL, 1).total == 0
        assert history.add_many([an_entry()]) == [1]

    def test_what_has_expired_is_forgotten(self, history: History) -> None:
        _reserve(history)
        _complete(history, _reserve(history, _key(key="two")))
        for now, gone in ((NOON, 0), (NOON + LEASE, 1), (NOON + KEPT, 1), (NOON + KEPT, 0)):
            with history.transaction() as transaction:
                assert transaction.purge(now) == gone

    def test_of_many_threads_one_gets_a_key(self, history: History) -> None:
        def reserve() -> object:
            try:
                return _reserve(history)
            except RequestInFlight as refusal:
                return refusal

        outcomes = _at_once(16, reserve)
        assert sum(isinstance(one, Reservation) for one in outcomes) == 1
        assert sum(isinstance(one, RequestInFlight) for one in outcomes) == 15

    def test_sixteen_threads_write_and_read_at_once(self, history: History) -> None:
        def work() -> list[int]:
            ids: list[int] = []
            for n in range(5):
                ids += history.add_many([an_entry(created_at=_at(minutes=n)), a_real_entry()])
                assert history.get(ids[-1]).is_fake is False
                assert history.page(ALL, 5).total >= len(ids)
            history.delete(ids.pop())
            return ids

        ids = [id_ for reported in _at_once(16, work) for id_ in reported]
        assert len(set(ids)) == 16 * 9
        assert {entry.id for entry in history.iterate(ALL)} == set(ids)
        assert history.statistics(ALL).total_fake == 16 * 5


def _same(kept: HistoryEntry, entry: NewEntry, id_: int) -> None:
    wanted = {name: getattr(entry, name) for name in _FIELDS}
    assert {name: getattr(kept, name) for name in _FIELDS} == wanted
    assert kept.id == id_


_FIELDS = tuple(NewEntry.__dataclass_fields__)


def _at(**distance: float) -> datetime:
    return NOON + timedelta(**distance)


def _record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "endpoint": "/api/inference/predict",
        "method": "POST",
        "status_code": 200,
        "response_time": 0.25,
        "created_at": NOON,
        "ip_address": "2001:db8::1",
        "request_id": "01HXYZ",
    }
    return RequestRecord(**(values | changes))


def _key(request: str = "one", *, key: str = "key", owner: int = 0) -> IdempotencyKey:
    return IdempotencyKey(owner, key, request)


def _reserve(
    history: History, key: IdempotencyKey = _key(), now: datetime = NOON
) -> Reservation | StoredAnswer:
    with history.transaction() as transaction:
        return transaction.reserve(key, now)


def _complete(
    history: History,
    held: object,
    body: bytes = b"done",
    now: datetime = NOON,
    ids: Sequence[int] = (),
) -> None:
    assert isinstance(held, Reservation)
    with history.transaction() as transaction:
        transaction.complete(held, body, ids, now)


def _series_total(history: History, where: HistoryFilter) -> int:
    series = history.statistics(where, BucketSize.DAY).series
    assert series is not None
    return sum(bucket.total_inferences for bucket in series)


def _figures(reported: Tally) -> tuple[float, ...]:
    return (
        *(reported.total_inferences, reported.total_fake, reported.total_real),
        *(reported.fake_percentage, reported.avg_processing_time),
    )


def _at_once(threads: int, work: Callable[[], Any]) -> Sequence[Any]:
    gate = threading.Barrier(threads)

    def wait_then_work() -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return [one.result() for one in [pool.submit(wait_then_work) for _ in range(threads)]]
