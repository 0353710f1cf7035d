"""What every history must keep to about labels, bulk deletion, searching and counting by them.

Beside :class:`tests.support.history.HistoryContract`, for the same adapters.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from d3.domain.errors import ResultNotFound
from d3.domain.history import LARGEST_ID, GroupBy, HistoryEntry, HistoryFilter, NewEntry
from d3.domain.idempotency import IdempotencyKey, Reservation, StoredAnswer
from d3.domain.labels import Label, LabelIs, NewLabel
from d3.domain.panels import Agreement
from d3.domain.ports.history import History
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict
from d3.domain.text import searchable
from tests.support.history import ALL, NOON, a_real_entry, an_entry

NAMES = [
    *("IMG_0001.JPG", "img_0002.jpg", "Straße.png", "STRASSE.png", "été.webp", "e\u0301te\u0301"),
    *("100%.png", "a_b.png", "axb.png", 'say "no".png', "it's.png", "a\\b", "NEAR(a b)", "a AND b"),
    *(
        "a OR b*",
        "-a",
        "^a",
        "{a}",
        "日本の写真.png",
        "日本",
        "🦄🦄🦄.png",
        "🦄",
        "",
        "  ",
        "a",
        "Ab",
    ),
    *("ΣΊΣΥΦΟΣ", "İstanbul", "a\0b", "\U0010ffff" * 3, "n" * 255),
]
PARTS = [
    *("", "i", "IMG", "img_000", "000", "jpg", ".JPG", "strasse", "STRASSE", "straße", "été", "te"),
    *("É", "%", "0%.", "_", "a_b", "a%b", '"', 'y "n', "'s", "\\", "NEAR(", "a AND b", "or", "b*"),
    *("*", "-a", "^a", "{a}", "日", "日本の", "の写真", "🦄", "🦄🦄", "🦄🦄🦄", "  ", " ", "a b"),
    *("σίσυφος", "istanbul", "a\0b", "\0", "\U0010ffff" * 3, "n" * 255, "n" * 256, "n" * 300),
    *("nobody", "searchable_name:a", "a NOT b", "a+b", "a:b", "(", ")", '""', "--", ";"),
]


class LabelsContract:
    """Each test is a promise of :class:`d3.domain.ports.history.History`."""

    def test_a_label_stands_beside_its_result_and_changes_no_verdict(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        (id_,) = history.add_many([an_entry()])
        before = history.get(id_)
        assert before.label is None
        assert history.labels(id_) == []
        said = NewLabel(result_id=id_, label=Label.REAL, source="photographer", note="日\nraw")
        (change,) = history.label([said], NOON, by=accounts[0])
        assert (change.result_id, change.label, change.source) == (id_, Label.REAL, "photographer")
        assert (change.note, change.created_at, change.user_id) == ("日\nraw", NOON, accounts[0])
        assert history.get(id_) == replace(before, label=Label.REAL)
        assert list(history.iterate(ALL)) == [history.get(id_)]
        assert history.labels(id_) == [change]

    def test_the_newest_label_counts_and_all_are_kept(self, history: History) -> None:
        ids = history.add_many([an_entry(), an_entry()])
        said = [Label.REAL, Label.GENERATED, Label.GENERATED, Label.UNKNOWN]
        for n, label in enumerate(said):
            history.label([_said(ids[0], label)], NOON + timedelta(hours=n))
        assert history.get(ids[0]).label is Label.UNKNOWN
        assert history.get(ids[1]).label is None
        kept = history.labels(ids[0])
        assert [one.label for one in kept] == said[::-1]
        assert [one.created_at for one in kept] == [NOON + timedelta(hours=n) for n in (3, 2, 1, 0)]
        assert history.labels(ids[1]) == []

    def test_many_labels_are_kept_in_order_or_none_is(self, history: History) -> None:
        ids = history.add_many([an_entry() for _ in range(2300)])
        labels = [Label.REAL, Label.GENERATED, Label.UNKNOWN]
        said = [_said(id_, labels[n % 3]) for n, id_ in enumerate(reversed(ids))]
        gone = max(ids) + 1
        for bad in (gone, 0, -1, LARGEST_ID + 1):
            with pytest.raises(ResultNotFound):
                history.label([*said, _said(bad)], NOON)
        assert all(entry.label is None for entry in history.iterate(ALL))
        assert history.labels(ids[0]) == []
        changes = history.label([*said, _said(ids[5], Label.UNKNOWN)], NOON)
        assert [one.result_id for one in changes] == [*reversed(ids), ids[5]]
        assert [one.id for one in changes] == sorted(one.id for one in changes)
        expected = {one.result_id: one.label for one in said} | {ids[5]: Label.UNKNOWN}
        assert {entry.id: entry.label for entry in history.iterate(ALL)} == expected
        assert history.label([], NOON) == []

    def test_only_ones_own_results_are_labelled_deleted_and_shown(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        mine, yours, nobodys = history.add_many(
            [an_entry(user_id=user) for user in (*accounts, None)]
        )
        for theirs in (yours, nobodys):
            with pytest.raises(ResultNotFound):
                history.label([_said(mine), _said(theirs)], NOON, user_id=accounts[0])
            with pytest.raises(ResultNotFound):
                history.labels(theirs, accounts[0])
        assert history.labels(mine, accounts[0]) == []
        history.label([_said(mine)], NOON, user_id=accounts[0])
        assert history.delete_many([mine, yours, nobodys], accounts[0]) == [yours, nobodys]
        assert [entry.id for entry in history.iterate(ALL)] == [nobodys, yours]

    def test_deleting_takes_labels_and_kept_answers_along(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        ids = history.add_many([an_entry(f"{n}.png", user_id=accounts[0]) for n in range(5)])
        history.label([_said(id_) for id_ in ids], NOON)
        for n, id_ in enumerate(ids):
            with history.transaction() as transaction:
                held = transaction.reserve(IdempotencyKey(accounts[0], f"k{n}", "r"), NOON)
                assert isinstance(held, Reservation)
                transaction.complete(held, b"answer", [id_], NOON)
        asked = [ids[3], 10**9, ids[1], 0, ids[1], LARGEST_ID + 9]
        assert history.delete_many(asked) == [0, 10**9, LARGEST_ID + 9]
        assert history.delete_many([]) == []
        assert [entry.id for entry in history.iterate(ALL)] == [ids[4], ids[2], ids[0]]
        assert history.page(HistoryFilter(contains="1.png"), 9).total == 0
        assert history.breakdown(ALL, GroupBy.LABEL)["real"].total_inferences == 3
        with pytest.raises(ResultNotFound):
            history.labels(ids[1])
        for n in range(5):
            with history.transaction() as transaction:
                kept = transaction.reserve(IdempotencyKey(accounts[0], f"k{n}", "r"), NOON)
            assert isinstance(kept, Reservation if n in {1, 3} else StoredAnswer)

    def test_retention_takes_labels_and_names_along(self, history: History) -> None:
        old, new = history.add_many([an_entry("old.png"), an_entry("new.png", created_at=_at(1))])
        history.label([_said(old), _said(new)], NOON)
        assert history.forget(_at(0.5), None) == (1, 0)
        for part, found in (("old", []), ("new", [new]), (".png", [new])):
            assert [one.id for one in history.iterate(HistoryFilter(contains=part))] == found
        assert [one.result_id for one in history.labels(new)] == [new]

    def test_the_last_label_of_each_result_is_found(self, history: History) -> None:
        ids = history.add_many([an_entry() for _ in range(3)])
        for label in (Label.REAL, Label.GENERATED):
            history.label([NewLabel(result_id=one, label=label) for one in ids[:2]], NOON)
        last = history.last_labels([*ids, 10**9])
        assert last == {one: history.labels(one)[0] for one in ids[:2]}
        assert {one.label for one in last.values()} == {Label.GENERATED}
        assert history.last_labels([]) == {}

    def test_results_are_identified_by_id_and_by_file(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        hashes = ["a" * 64, "b" * 64, "a" * 64, None]
        ids = history.add_many(
            [
                an_entry(image_sha256=sha256, user_id=accounts[n % 2])
                for n, sha256 in enumerate(hashes)
            ]
        )
        one, two = "a" * 64, "b" * 64
        asked = [one, two, "c" * 64, "x", ids[3], 10**9, 0, -1, LARGEST_ID + 1]
        asked += [f"{n:064}" for n in range(2500)]
        found = {one: [ids[0], ids[2]], two: [ids[1]], ids[3]: [ids[3]]}
        assert history.identify(asked) == found
        assert history.identify(asked, accounts[1]) == {two: [ids[1]], ids[3]: [ids[3]]}
        assert history.identify([]) == {}
        where = HistoryFilter(image_sha256="A" * 64)
        assert [entry.id for entry in history.iterate(where)] == [ids[2], ids[0]]

    @pytest.mark.parametrize("part", PARTS)
    def test_a_name_is_found_by_any_part_of_it(self, history: History, part: str) -> None:
        history.add_many([an_entry(name) for name in NAMES])
        where = HistoryFilter(contains=part)
        found = {entry.image_name for entry in history.iterate(where)}
        kept = {entry.image_name for entry in history.iterate(ALL)}
        assert found == {
            name
            for name in kept
            if searchable(part.replace("\0", "\ufffd"))[:256] in searchable(name)
        }
        _consistent(history, where)

    def test_filters_that_people_combine_find_what_they_say(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        _scatter(history, accounts, 60, random.Random(1))
        everything = list(history.iterate(ALL))
        for where in (
            *(HistoryFilter(label=one) for one in LabelIs),
            *(HistoryFilter(provenance=one) for one in Says),
            HistoryFilter(label=LabelIs.REAL, verdict=Verdict.FAKE),
            HistoryFilter(label=LabelIs.NONE, model="starter", model_version=2),
            HistoryFilter(model_version=1),
            HistoryFilter(provenance=Says.GENERATED, contains="IMG", user_id=accounts[0]),
            HistoryFilter(contains="mg_1", q="img", is_fake=True, since=_at(0.1), until=_at(2)),
            HistoryFilter(contains="1", label=LabelIs.GENERATED),
            *(HistoryFilter(disagree=one) for one in (True, False)),
            HistoryFilter(disagree=True, model="starter", since=_at(0.1)),
        ):
            found = list(history.iterate(where))
            assert found == [entry for entry in everything if where.matches(entry)], where
            _consistent(history, where)

    def test_counts_are_those_of_plain_python_whatever_happens(
        self, history: History, accounts: tuple[int, int]
    ) -> None:
        chance = random.Random(7)
        for _ in range(6):
            _scatter(history, accounts, 25, chance)
            ids = [entry.id for entry in history.iterate(ALL)]
            history.delete_many(chance.sample(ids, 5))
            history.forget(_at(chance.uniform(-0.5, 0.2)), None)
            for where in (
                ALL,
                HistoryFilter(model="starter", model_version=2),
                HistoryFilter(user_id=accounts[0]),
                HistoryFilter(since=_at(0.3), until=_at(2.2)),
                HistoryFilter(label=LabelIs.REAL),
                HistoryFilter(contains="img"),
            ):
                entries = [one for one in history.iterate(ALL) if where.matches(one)]
                _counts(history, where, entries)

    def test_writers_at_once_leave_counts_exact(self, history: History) -> None:
        ids = history.add_many([an_entry(f"old-{n}.png") for n in range(40)])
        gate = threading.Barrier(4)

        def work(turn: int) -> None:
            gate.wait()
            chance = random.Random(turn)
            for n in range(5):
                history.add_many([an_entry(f"new-{turn}-{n}.png"), a_real_entry()])
                some = chance.sample(ids[turn * 10 :], 8)
                said = [_said(id_, chance.choice([*Label])) for id_ in some[:4]]
                with suppress(ResultNotFound):  # another one deletes some of them
                    history.label(said, NOON)
                history.delete_many(some[6:])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        entries = list(history.iterate(ALL))
        _counts(history, ALL, entries)
        for entry in entries:
            kept = history.labels(entry.id)
            assert entry.label == (kept[0].label if kept else None)
        assert history.page(HistoryFilter(contains="new-"), 500).total == 20


def _said(id_: int, label: Label = Label.REAL) -> NewLabel:
    return NewLabel(result_id=id_, label=label)


def _at(days: float) -> Any:
    return NOON + timedelta(days=days)


def _scatter(
    history: History, accounts: tuple[int, int], number: int, chance: random.Random
) -> None:
    """Results of all kinds, some of them labelled."""

    def one() -> NewEntry:
        model = chance.choice(["starter", "d3-vit-l14", None])
        known = {"model": model} if model is None else {"model_name": model}
        return an_entry(
            f"{chance.choice(['IMG', 'img', 'Bild'])}_{chance.randrange(30)}.png",
            prediction=chance.choice([0.0, 1.0, 0.05, 0.5, chance.random()]),
            is_fake=chance.random() > 0.5,
            verdict=chance.choice([*Verdict]),
            processing_time=chance.choice([0.125, 0.5, 2.0]),
            created_at=_at(chance.uniform(-0.5, 2.5)),
            user_id=chance.choice([*accounts, None]),
            notice=chance.choice(["", "Demo."]),
            provenance_says=chance.choice([*Says, None]),
            agreement=chance.choice([*Agreement, None]),
            **known,
            **({} if model is None else {"model_version": chance.choice([1, 2])}),
        )

    ids = history.add_many([one() for _ in range(number)])
    history.label(
        [_said(id_, chance.choice([*Label])) for id_ in ids if chance.random() > 0.5], NOON
    )


def _consistent(history: History, where: HistoryFilter) -> None:
    """Every way to ask says the same."""
    found = list(history.iterate(where))
    assert history.page(where, 500).entries == tuple(found)
    assert history.page(where, 500).total == len(found)
    assert history.page_after(where, 500).entries == tuple(found)
    _counts(history, where, found)


def _counts(history: History, where: HistoryFilter, entries: list[HistoryEntry]) -> None:
    reported = history.statistics(where)
    assert reported.total_inferences == len(entries)
    verdicts = Counter(one.verdict.value for one in entries)
    assert {name: getattr(reported.by_verdict, name) for name in ("fake", "real", "uncertain")} == {
        name: verdicts[name] for name in ("fake", "real", "uncertain")
    }
    distribution = history.distribution(where, 20)
    assert sum(distribution.scores) == len(entries)
    for by, name in (
        (GroupBy.MODEL, "model_name"),
        (GroupBy.LABEL, "label"),
        (GroupBy.PROVENANCE, "provenance_says"),
        (GroupBy.AGREEMENT, "agreement"),
    ):
        groups = history.breakdown(where, by)
        counts = Counter(getattr(one, name) for one in entries)
        assert {group: tally.total_inferences for group, tally in groups.items()} == counts
        assert list(groups) == sorted(groups, key=lambda group: (-counts[group], group or ""))
        for group, tally in groups.items():
            mine = [one for one in entries if getattr(one, name) == group]
            assert tally.by_verdict.fake == sum(one.verdict is Verdict.FAKE for one in mine)
            assert tally.total_fake == sum(one.is_fake for one in mine)
            assert tally.demo == sum(one.is_demo for one in mine)
    days = history.daily(where, 20)
    assert [day.start for day in days] == sorted({_midnight(one) for one in entries})
    for day in days:
        mine = [one for one in entries if _midnight(one) == day.start]
        parts = Counter(min(int(one.prediction * 20), 19) for one in mine)
        assert list(day.scores) == [parts[part] for part in range(20)]
        assert day.total == len(mine)
        assert day.uncertain == sum(one.verdict is Verdict.UNCERTAIN for one in mine)
        known = (Label.REAL, Label.GENERATED)
        assert day.labelled == Counter((e.label, e.verdict) for e in mine if e.label in known)


def _midnight(entry: HistoryEntry) -> Any:
    return entry.created_at.replace(hour=0, minute=0, second=0, microsecond=0)
