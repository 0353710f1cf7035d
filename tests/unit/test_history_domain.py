"""Entries, filters and cursors mean what they say before any store is asked."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3.adapters.sql.queries import after_prefix
from d3.domain.errors import CursorInvalid, IdempotencyKeyInvalid
from d3.domain.history import HistoryFilter, Tally, VerdictCounts, entry_of
from d3.domain.idempotency import IdempotencyKey
from d3.domain.images import ImageFacts
from d3.domain.models import ModelReference
from d3.domain.ordering import Order, SortKey, decode_cursor, encode_cursor
from d3.domain.scoring import AbstainBand, Calibration, assess
from d3.domain.text import storable
from tests.support.history import NOON, ORDERS, an_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
EDGES = st.text(st.sampled_from(["a", "\ud7ff", "\ue000", "\U0010ffff", "\x01"]), max_size=5)


@given(TEXT | EDGES, TEXT | EDGES)
def test_a_prefix_is_a_range(prefix, text):
    end = after_prefix(prefix)
    for one in (text, prefix + text):
        inside = prefix <= one and (end is None or one < end)
        assert inside == one.startswith(prefix)


@given(st.text(max_size=300))
def test_any_text_becomes_storable_and_stays_so(text):
    kept = storable(text)
    assert "\0" not in kept
    assert len(kept) <= 255
    assert kept.encode().decode() == kept
    assert storable(kept) == kept


@given(
    st.datetimes(timezones=st.just(UTC)), st.integers(1, 2**63 - 1), st.none() | st.booleans(), TEXT
)
def test_a_cursor_brings_its_place_back(moment, id_, is_fake, q):
    where = HistoryFilter(is_fake=is_fake, q=q)
    cursor = encode_cursor((moment, id_), where)
    assert decode_cursor(cursor, where) == (moment, id_)
    assert len(cursor) < 50
    with pytest.raises(CursorInvalid):
        decode_cursor(cursor, HistoryFilter(is_fake=is_fake, q=q + "x"))


@given(
    st.sampled_from(ORDERS),
    st.sampled_from(ORDERS),
    st.integers(1, 2**63 - 1),
    st.floats(0, 1),
    TEXT,
)
def test_a_cursor_stands_in_one_order_alone(order, other, id_, prediction, name):
    values = {SortKey.PREDICTION: (prediction,), SortKey.IMAGE_NAME: (storable(name),)}
    place = (*values.get(order.by, ()), NOON, id_)
    cursor = encode_cursor(place, HistoryFilter(), order)
    assert decode_cursor(cursor, HistoryFilter(), order) == place
    assert len(cursor) <= 2048
    if other != order:
        with pytest.raises(CursorInvalid):
            decode_cursor(cursor, HistoryFilter(), other)


def test_the_longest_name_fits_into_a_cursor_that_the_service_takes():
    place = ("\U0001f984" * 255, datetime(2026, 3, 1, tzinfo=UTC), 2**63 - 1)
    order = Order(SortKey.IMAGE_NAME)
    assert len(encode_cursor(place, HistoryFilter(), order)) <= 2048


def test_cursors_handed_out_by_earlier_versions_are_taken():
    where = HistoryFilter(is_fake=True, q="cat")
    place = (datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC), 4711)
    assert decode_cursor("AQAGS_U1sPJAAAAAAAAAEmedyuZEASCSWQ", where) == place


@given(st.text(max_size=60))
def test_made_up_cursors_are_refused(cursor):
    with pytest.raises(CursorInvalid):
        decode_cursor(cursor, HistoryFilter())


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": math.nan},
        {"prediction": 1.1},
        {"confidence": -0.1},
        {"threshold": math.inf},
        {"spread": math.nan},
        {"logit": math.inf},
        {"processing_time": math.nan},
        {"processing_time": -1},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_an_entry_that_makes_no_sense_is_not_made(changes):
    with pytest.raises(ValueError, match=r"\w"):
        an_entry(**changes)


def test_times_without_a_zone_or_a_calendar_are_refused():
    far = timezone(timedelta(hours=14))
    for moment in (datetime(2026, 1, 1), datetime(1, 1, 1, tzinfo=far)):  # noqa: DTZ001
        with pytest.raises(ValueError, match="a time"):
            HistoryFilter(since=moment)


def test_nothing_has_no_percentage():
    none = Tally(
        total_inferences=0,
        total_fake=0,
        avg_processing_time=0.0,
        by_verdict=VerdictCounts(),
        demo=0,
    )
    assert none.fake_percentage == 0


@pytest.mark.parametrize("key", ["", " a", "a ", "ü", "a\nb", "a\0", "x" * 256])
def test_keys_that_are_no_keys(key):
    with pytest.raises(IdempotencyKeyInvalid):
        IdempotencyKey(0, key, "hash")


@pytest.mark.parametrize("key", ["a", "x" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324", "a b"])
def test_keys_that_are_keys(key):
    assert IdempotencyKey(0, key, "hash").key == key


def test_an_entry_repeats_its_verdict():
    from d3.domain.detections import Detection

    calibration, band = Calibration(0.5, 0.1, "temperature"), AbstainBand(0.2, 0.2)
    score = assess([1.0, 0.5], threshold=0.4, calibration=calibration, abstain_band=band)
    detection = Detection.of(
        score,
        name="a.jpg",
        views=2,
        image=ImageFacts("PNG", 1, 1, 1, 1, "a" * 64),
        model=ModelReference("starter", 1, "b" * 64),
        engine="torch",
        precision="fp32",
        processing_time=0.1,
        calibration=calibration,
        abstain_band=band,
    )
    entry = entry_of(detection, created_at=NOON, d3_version="0.1.0", cached=True)
    assert entry.logit is not None
    kept = Calibration(entry.calibration_scale, entry.calibration_bias)
    again = kept.probability(entry.logit)
    assert again == entry.prediction
    assert (again > entry.threshold) == entry.is_fake
    around = AbstainBand(entry.abstain_below, entry.abstain_above)
    assert around.holds(again, entry.threshold) == (entry.verdict == "uncertain")
    assert entry.cached
