"""Who goes next: fairness, deadlines, cancellation, poison, memory, on a simulated device."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3.adapters.batching.backlog import SlotRequest, Submission
from d3.adapters.batching.costs import CostModel
from d3.adapters.batching.policy import Bounds
from d3.domain.errors import ExplanationUnavailable, Overloaded
from d3.domain.ports.queue import Lane
from tests.unit.batching.simulated import Device, lanes

INTERACTIVE, BULK = Lane.INTERACTIVE, Lane.BULK


class TestGathering:
    def test_an_idle_device_takes_what_waits_at_once(self) -> None:
        device = Device()
        device.submit()
        chosen = device.begin()
        assert chosen is not None
        assert chosen.images == 1

    def test_what_came_while_it_was_busy_shares_the_next_pass(self) -> None:
        device = Device()
        device.submit()
        running = device.begin()
        assert running is not None
        for _ in range(9):
            device.submit()
        device.finish(running)
        device.run()
        assert [one.images for one in device.passes] == [1, 9]

    def test_a_pass_is_no_larger_than_the_batch_size(self) -> None:
        device = Device(Bounds(batch_size=4))
        for _ in range(10):
            device.submit()
        device.run()
        assert [one.images for one in device.passes] == [4, 4, 2]

    def test_a_large_submission_is_cut_and_answered_whole(self) -> None:
        device = Device(Bounds(batch_size=4))
        entry = device.submit(images=10)
        device.run()
        assert [one.images for one in device.passes] == [4, 4, 2]
        assert device.answered[entry] == list(range(10))

    def test_more_views_make_fewer_images_of_a_pass(self) -> None:
        device = Device(Bounds(batch_size=4))
        device.submit(images=4, views=3)
        device.run()
        assert [one.images for one in device.passes] == [2, 2]

    def test_an_image_larger_than_any_pass_goes_alone(self) -> None:
        device = Device(Bounds(batch_size=1))
        device.submit(images=2, views=16)
        device.run()
        assert [one.images for one in device.passes] == [1, 1]

    def test_a_pass_has_one_number_of_views_and_the_first_leads(self) -> None:
        device = Device()
        for views in (1, 4, 1, 4, 1):
            device.submit(views=views)
        device.run()
        assert [(one.views, one.images) for one in device.passes] == [(1, 3), (4, 2)]

    def test_other_views_are_not_overtaken_for_ever(self) -> None:
        device = Device(Bounds(batch_size=2))
        device.submit()
        other = device.submit(views=2)
        for _ in range(3):
            device.submit()
            device.submit()
            device.step()
        assert device.ended[other] == "answered"

    def test_a_pass_is_no_larger_than_makes_the_device_efficient(self) -> None:
        """Where a pass costs little by itself, its images would only wait for each other."""
        device = Device(fixed=0.001, each=0.25).learn()
        for _ in range(32):
            device.submit()
        device.run()
        assert max(one.images for one in device.passes) < 4
        assert device.now <= 32 * 2 * 0.25 * 1.03


class TestFairness:
    def test_interactive_goes_before_bulk_that_came_earlier(self) -> None:
        device = Device(Bounds(batch_size=4))
        for _ in range(20):
            device.submit(BULK)
        device.step()
        mine = device.submit()
        assert lanes(device.step()) == {INTERACTIVE: 1, BULK: 0}
        assert device.ended[mine] == "answered"

    def test_bulk_gets_its_share_of_every_pass_while_both_wait(self) -> None:
        device = Device(Bounds(batch_size=10, bulk_share=0.2))
        done = {INTERACTIVE: 0, BULK: 0}
        device.submit(BULK, images=900)
        for _ in range(40):
            for _ in range(10):
                device.submit()
            counted = lanes(device.step())
            done = {lane: done[lane] + counted[lane] for lane in Lane}
        assert done[BULK] == pytest.approx(0.2 * 400, abs=10)
        assert sum(done.values()) == 400

    def test_bulk_gets_its_share_where_a_pass_is_one_image(self) -> None:
        device = Device(Bounds(batch_size=1, bulk_share=0.25))
        device.submit(BULK, images=50)
        for _ in range(60):
            device.submit()
        order = [lanes(device.step())[BULK] for _ in range(40)]
        assert sum(order) == pytest.approx(10, abs=1)

    def test_bulk_gets_its_share_where_it_wants_other_views(self) -> None:
        device = Device(Bounds(batch_size=6, bulk_share=0.25, images=5000))
        device.submit(BULK, images=2000, views=5)
        device.submit(INTERACTIVE, images=2000)
        work = {INTERACTIVE: 0, BULK: 0}
        for _ in range(200):
            chosen = device.step()
            assert chosen is not None
            for lane, images in lanes(chosen).items():
                work[lane] += images * (1 + chosen.views)
        assert work[BULK] / sum(work.values()) == pytest.approx(0.25, abs=0.02)

    def test_bulk_has_the_device_to_itself_while_nobody_else_waits(self) -> None:
        device = Device(Bounds(batch_size=8))
        device.submit(BULK, images=8)
        assert lanes(device.step()) == {INTERACTIVE: 0, BULK: 8}

    def test_nothing_is_saved_up_while_no_bulk_waits(self) -> None:
        device = Device(Bounds(batch_size=10))
        for _ in range(100):
            device.submit()
        for _ in range(9):
            device.step()
        device.submit(BULK, images=10)
        device.submit(INTERACTIVE, images=20)
        assert lanes(device.step())[BULK] == 0

    def test_an_interactive_image_waits_for_two_passes_at_most_under_a_bulk_flood(self) -> None:
        device = Device().learn()
        device.submit(BULK, images=900)
        longest = 0.0
        while device.policy.lines[BULK].images > 100:
            running = device.begin()
            assert running is not None
            mine = device.submit()
            asked = device.now
            device.finish(running)
            device.step()
            assert device.ended[mine] == "answered"
            longest = max(longest, device.now - asked)
        assert longest <= 2 * (device.fixed + device.each * 64)


class TestDeadlines:
    def test_who_is_late_costs_no_pass(self) -> None:
        device = Device()
        late, fine = device.submit(deadline=1.0), device.submit(deadline=5.0)
        device.now = 2.0
        device.run()
        assert (device.ended[late], device.ended[fine]) == ("expired", "answered")
        assert [one.images for one in device.passes] == [1]

    def test_who_would_be_late_by_the_end_of_a_pass_is_spared_it_if_others_wait(self) -> None:
        device = Device().learn()
        late, fine = device.submit(deadline=0.1), device.submit(deadline=5.0)
        device.now = 0.09
        device.step()
        assert (device.ended[late], device.ended[fine]) == ("expired", "answered")

    def test_alone_even_the_hopeless_is_tried_so_that_a_wrong_estimate_is_found_out(self) -> None:
        device = Device()
        device.policy.costs.observe(2, 1000.0)
        mine = device.submit(deadline=1.0)
        device.run()
        assert device.ended[mine] == "answered"
        for _ in range(6):
            device.submit(deadline=device.now + 1.0)
            device.step()
        assert device.policy.costs.seconds(2) < 1.0

    def test_a_pass_is_cut_so_that_the_earliest_deadline_is_kept(self) -> None:
        device = Device().learn()
        first = device.submit(deadline=0.101)
        for _ in range(12):
            device.submit(deadline=9.0)
        chosen = device.step()
        assert chosen is not None
        assert chosen.images == 8
        assert device.ended[first] == "answered"
        assert device.now <= 0.101

    def test_a_tight_deadline_further_back_is_not_kept_at_the_price_of_those_before(self) -> None:
        device = Device().learn()
        for _ in range(10):
            device.submit()
        device.submit(deadline=0.15)
        device.now = 0.06
        assert lanes(device.step())[INTERACTIVE] == 10

    def test_what_cannot_be_done_in_time_is_refused_at_once_with_a_time_to_come_back(self) -> None:
        device = Device().learn()
        for _ in range(100):
            device.submit()
        device.begin()
        with pytest.raises(Overloaded) as refused:
            device.submit(deadline=0.5)
        # 101 images take a second, and their five passes, of which one runs, a third of one more.
        assert 0.5 <= refused.value.retry_after <= 1.2
        device.submit(deadline=2.0)

    def test_an_idle_device_refuses_nothing(self) -> None:
        device = Device()
        device.policy.costs.observe(2, 1000.0)
        device.submit(deadline=0.1)

    def test_what_is_only_reserved_counts_as_waiting(self) -> None:
        device = Device().learn()
        device.submit()
        device.begin()
        device.policy.reserve(SlotRequest(100, 0, deadline=9.0), device.now)
        with pytest.raises(Overloaded):
            device.submit(deadline=0.5)
        device.policy.release(SlotRequest(100, 0, deadline=9.0))
        device.submit(deadline=0.5)

    @pytest.mark.parametrize("load", [0.8, 1.2, 2.0, 10.0])
    def test_whatever_is_offered_the_device_is_used_and_who_is_let_in_is_answered_in_time(
        self, load: float
    ) -> None:
        device = Device()
        capacity = 32 / (device.fixed + device.each * 64)
        refused = offer(device, load * capacity, seconds=30.0, deadline=1.0)
        let_in = list(device.ended)
        assert {device.ended[one] for one in let_in} == {"answered"}
        assert all(device.ended_at[one] <= one.since + 1.0 for one in let_in)
        assert len(let_in) >= 0.95 * min(load, 1.0) * capacity * 30.0
        assert (refused > 0) == (load > 1)


def offer(device: Device, rate: float, seconds: float, deadline: float) -> int:
    """Let images arrive by themselves; how many were refused."""
    source, moments, now = random.Random(0), [], 0.0
    while (now := now + source.expovariate(rate)) < seconds:
        moments.append(now)
    refused = 0
    while moments or device.policy.waits:
        running = device.begin()
        until = device.now + device.fixed + device.each * running.encodings if running else 0.0
        while moments and (moments[0] <= until or running is None):
            device.now = moments.pop(0)
            try:
                device.submit(deadline=device.now + deadline)
            except Overloaded:
                refused += 1
            if running is None:
                break
        if running is not None:
            device.now = until - (device.fixed + device.each * running.encodings)
            device.finish(running)
    return refused


SLOW = [(0.0, 0.75), (0.1, 0.7), (0.3, 0.6), (0.6, 0.6), (1.0, 1.0), (2.0, 2.3), (0.5, 3.0)]
"""Seconds of a pass and of an encoding, where an image takes longer than a second."""


class TestSlowDevices:
    """Where a pass is felt: whoever is let in is judged in time, and hears before that or never."""

    @staticmethod
    def device(fixed: float, each: float) -> Device:
        device = Device(fixed=fixed, each=each)
        for encodings in (2, 2, 2, 4, 4, 4):  # what a warm-up has the time for
            device.policy.costs.observe(encodings, fixed + each * encodings)
        return device

    @pytest.mark.parametrize("running", [False, True])
    @pytest.mark.parametrize(("fixed", "each"), SLOW)
    def test_of_a_burst_what_fits_one_by_one_is_judged_and_the_rest_hears_at_once(
        self,
        fixed: float,
        each: float,
        running: bool,  # noqa: FBT001  a case
    ) -> None:
        device, deadline, let_in, refused = self.device(fixed, each), 27.0, 0, 0
        alone = fixed + 2 * each
        first = None
        if running:
            device.submit(deadline=deadline)
            first = device.begin()
        wants = [SlotRequest(1, 100, deadline=deadline) for _ in range(16)]
        for want in wants:  # all reserve before the first is decoded, as in a burst
            try:
                device.policy.reserve(want, device.now)
                let_in += 1
            except Overloaded:
                refused += 1
        for _ in range(let_in):
            device.policy.release(wants[0])
            device.submit(deadline=deadline)
        if first is not None:
            device.finish(first)
        device.run()
        assert set(device.ended.values()) == {"answered"}
        assert max(device.ended_at.values()) <= deadline * 1.08
        assert let_in + running >= min(16, int(deadline / alone))
        assert refused == 16 - let_in

    @pytest.mark.parametrize(("fixed", "each"), SLOW)
    def test_answers_leave_as_they_are_ready(self, fixed: float, each: float) -> None:
        device = self.device(fixed, each)
        for _ in range(16):
            device.submit(deadline=1000.0)
        device.run()
        assert max(one.images for one in device.passes) <= 2
        ended = sorted(device.ended_at.values())
        assert ended[0] <= 2 * (fixed + 2 * each)

    @pytest.mark.parametrize("load", [1.5, 4.0])
    @pytest.mark.parametrize(("fixed", "each"), SLOW)
    def test_under_load_the_device_is_used_and_nobody_is_given_up(
        self, fixed: float, each: float, load: float
    ) -> None:
        device = self.device(fixed, each)
        capacity = 1 / (fixed + 2 * each)
        offer(device, load * capacity, seconds=600.0, deadline=27.0)
        assert set(device.ended.values()) == {"answered"}
        assert all(device.ended_at[one] <= one.since + 27.0 * 1.08 for one in device.ended)
        assert len(device.ended) >= 0.9 * capacity * 600.0

    def test_a_guess_that_was_a_little_wrong_costs_nobody_the_answer(self) -> None:
        device = self.device(0.0, 0.75)
        device.each = 0.8
        entries = [device.submit(deadline=27.0) for _ in range(16)]
        device.run()
        assert {device.ended[one] for one in entries} == {"answered"}


class TestHeatMaps:
    """Drawn in parts, in passes of their own, in the bulk lane."""

    @staticmethod
    def submit_map(device: Device, parts: int = 12, deadline: float | None = None) -> Submission:
        want = SlotRequest(parts, 0, 1, BULK, deadline, apart=True)
        device.policy.reserve(want, device.now)
        entry = Submission(parts, 1, BULK, 0, deadline, device.now, apart=True)
        device.policy.enter(entry)
        device.answered[entry] = []
        return entry

    def test_its_parts_share_a_pass_with_nobody(self) -> None:
        device = Device().learn()
        maps = [self.submit_map(device) for _ in range(2)]
        others = [device.submit(BULK, images=3), device.submit()]
        device.run()
        assert {device.ended[one] for one in (*maps, *others)} == {"answered"}
        for one in device.passes:
            assert len({part.entry for part in one.parts}) == 1 or not one.apart
        assert device.answered[maps[0]] == list(range(12))

    def test_single_images_go_first_and_come_in_between(self) -> None:
        device = TestSlowDevices.device(0.1, 0.7)
        drawn = self.submit_map(device)
        device.step()
        mine = device.submit()
        device.step()
        assert device.ended[mine] == "answered"
        assert drawn not in device.ended

    def test_who_leaves_stops_it(self) -> None:
        device = TestSlowDevices.device(0.1, 0.7)
        drawn = self.submit_map(device)
        device.step()
        device.policy.withdraw(drawn)
        device.run()
        assert len(device.passes) == 1
        assert device.policy.idle

    def test_what_takes_longer_than_there_is_time_is_told_before_it_begins(self) -> None:
        device = TestSlowDevices.device(0.1, 0.7)
        with pytest.raises(ExplanationUnavailable, match="18 seconds"):
            self.submit_map(device, deadline=15.0)
        self.submit_map(device, deadline=27.0)
        with pytest.raises(Overloaded):
            self.submit_map(device, deadline=27.0)

    def test_it_teaches_nothing_about_images(self) -> None:
        device = Device().learn()
        before = device.policy.costs.seconds(24)
        device.fixed = 9.0
        self.submit_map(device)
        device.run()
        assert device.policy.costs.seconds(24) == before


class TestBounds:
    def test_a_full_lane_refuses_and_the_other_is_open(self) -> None:
        device = Device(Bounds(images=10)).learn()
        device.submit(BULK, images=10)
        with pytest.raises(Overloaded) as refused:
            device.submit(BULK)
        assert refused.value.retry_after > 0
        device.submit()

    def test_memory_is_bounded_too(self) -> None:
        device = Device(Bounds(size_bytes=1000))
        device.submit(images=9)
        with pytest.raises(Overloaded):
            device.submit(images=2)
        device.submit(images=1)

    def test_one_request_larger_than_the_bound_has_the_lane_to_itself(self) -> None:
        device = Device(Bounds(images=10))
        device.submit(BULK, images=30)
        with pytest.raises(Overloaded):
            device.submit(BULK)
        device.run()
        device.submit(BULK)

    def test_places_are_free_as_soon_as_a_pass_begins_or_somebody_leaves(self) -> None:
        device = Device(Bounds(images=4, batch_size=2))
        entries = [device.submit() for _ in range(4)]
        device.begin()
        device.submit(images=2)
        device.cancel(entries[3])
        device.submit()
        with pytest.raises(Overloaded):
            device.submit()


class TestCancellation:
    def test_who_left_costs_no_pass(self) -> None:
        device = Device()
        gone, stays = device.submit(), device.submit()
        device.cancel(gone)
        device.run()
        assert [one.images for one in device.passes] == [1]
        assert (device.ended[gone], device.ended[stays]) == ("cancelled", "answered")

    def test_who_left_unnoticed_is_found_out_as_the_pass_begins(self) -> None:
        device = Device()
        gone = [device.submit() for _ in range(3)]
        for entry in gone:
            device.ended[entry] = "cancelled"
        stays = device.submit()
        device.run()
        assert [one.images for one in device.passes] == [1]
        assert device.ended[stays] == "answered"

    def test_nobody_left_is_no_pass(self) -> None:
        device = Device()
        device.cancel(device.submit())
        assert device.step() is None
        assert device.policy.idle


class TestPoison:
    @pytest.mark.parametrize("poisoned", range(0, 16, 5))
    def test_one_image_fails_alone(self, poisoned: int) -> None:
        device = Device(poison={"bad"})
        entries = [device.submit(token="bad" if n == poisoned else n) for n in range(16)]
        device.run()
        for n, entry in enumerate(entries):
            assert device.ended[entry] == ("failed" if n == poisoned else "answered")
        assert len(device.passes) <= 1 + 2 * 4

    def test_a_bad_image_does_not_hold_up_who_comes_after(self) -> None:
        device = Device(poison={"bad"})
        for n in range(32):
            device.submit(token="bad" if n == 7 else n)
        device.step()
        later = device.submit()
        device.step()
        device.step()
        assert device.ended[later] == "answered"

    def test_a_submission_with_a_bad_image_fails_once_and_costs_nothing_more(self) -> None:
        device = Device(Bounds(batch_size=4), poison={"bad"})
        bad, good = device.submit(images=12, token="bad"), device.submit(images=3)
        device.run()
        assert (device.ended[bad], device.ended[good]) == ("failed", "answered")
        assert device.policy.idle


class TestMemory:
    def test_the_batch_is_halved_and_the_bound_remembered(self) -> None:
        device = Device(memory=20)
        for _ in range(32):
            device.submit()
        device.run()
        assert set(device.ended.values()) == {"answered"}
        tried = len(device.passes)
        for _ in range(32):
            device.submit()
        device.run()
        assert all(one.encodings <= 20 for one in device.passes[tried:])

    def test_a_single_image_without_room_fails_with_that(self) -> None:
        device = Device(memory=10)
        large, small = device.submit(views=16), device.submit()
        device.run()
        assert (device.ended[large], device.ended[small]) == ("out of memory", "answered")


class TestCosts:
    def test_the_line_is_found(self) -> None:
        costs = CostModel()
        for n in (2, 2, 4, 8, 16):
            costs.observe(n, 0.02 + 0.005 * n)
        assert costs.fixed == pytest.approx(0.02)
        assert costs.each == pytest.approx(0.005)
        assert costs.seconds(64) == pytest.approx(0.34)
        assert costs.within(0.34) == pytest.approx(64)

    def test_one_slow_pass_changes_little(self) -> None:
        costs = CostModel()
        for n in [2, 4, 8, 16] * 5:
            costs.observe(n, 0.02 + 0.005 * n)
        costs.observe(8, 3.0)
        assert costs.seconds(8) == pytest.approx(0.06)

    def test_a_device_that_became_slower_is_noticed(self) -> None:
        costs = CostModel()
        for n in [2, 8, 32] * 5:
            costs.observe(n, 0.02 + 0.005 * n)
        for n in [2, 8, 32] * 5:
            costs.observe(n, 0.04 + 0.01 * n)
        assert costs.seconds(32) == pytest.approx(0.36)

    @given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 100.0)), max_size=60))
    def test_it_never_promises_less_than_nothing(self, passes: list[tuple[int, float]]) -> None:
        costs = CostModel()
        for n, seconds in passes:
            costs.observe(n, seconds)
        assert costs.fixed >= 0
        assert costs.each >= 0
        assert 1 <= costs.enough(64) <= 64


_submission = st.tuples(
    st.sampled_from(Lane),
    st.integers(1, 9),
    st.sampled_from([1, 1, 1, 2, 16]),
    st.one_of(st.none(), st.floats(0.0, 2.0)),
    st.sampled_from(["good", "good", "good", "bad"]),
)
_action = st.one_of(
    st.tuples(st.just("submit"), _submission),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("wait"), st.floats(0.0, 1.0)),
)


def _act(device: Device, entries: list[Submission], kind: str, about: Any) -> None:
    if kind == "submit":
        lane, images, views, deadline, token = about
        until = None if deadline is None else device.now + deadline
        with suppress(Overloaded):
            entries.append(device.submit(lane, images, views, until, token))
    elif kind == "cancel" and about < len(entries):
        device.cancel(entries[about])
    elif kind == "step":
        device.step()
    elif kind == "wait":
        device.now += about


def _check_bounds(device: Device) -> None:
    for line in device.policy.lines.values():
        alone = sum(1 for one in line.entries if one.left) == 1
        assert 0 <= line.images <= 20 or alone
        assert 0 <= line.size_bytes <= 1500 or alone
        assert line.images == sum(one.left for one in line.entries)
        assert line.size_bytes == sum(
            one.size_bytes * one.left // one.images for one in line.entries
        )
        assert line.encodings == sum(one.left * one.unit for one in line.entries)


@settings(max_examples=300, deadline=None)
@given(
    actions=st.lists(_action, max_size=60),
    batch_size=st.integers(1, 8),
    share=st.floats(0.05, 0.9),
    memory=st.sampled_from([3, 10, 10**9]),
)
def test_whatever_happens_everybody_hears_once_and_bounds_hold(
    actions: list[tuple[str, Any]], batch_size: int, share: float, memory: int
) -> None:
    bounds = Bounds(batch_size=batch_size, images=20, size_bytes=1500, bulk_share=share)
    device = Device(bounds, poison={"bad"}, memory=memory)
    entries: list[Submission] = []
    for kind, about in actions:
        _act(device, entries, kind, about)
        _check_bounds(device)
    device.run()
    assert set(device.ended) == set(entries), "nothing is lost"
    for entry in entries:
        if device.ended[entry] == "answered":
            assert sorted(device.answered[entry]) == list(range(entry.images))
            assert entry.token == "good"
    for one in device.passes:
        assert one.encodings <= 2 * batch_size or one.images == 1
        assert {part.entry.views for part in one.parts} == {one.views}
    assert device.policy.idle
    assert all(line.images == line.size_bytes == 0 for line in device.policy.lines.values())


@settings(max_examples=200, deadline=None)
@given(
    batch_size=st.integers(1, 40),
    share=st.floats(0.05, 0.9),
    bulk_views=st.sampled_from([1, 2, 4, 16]),
    views=st.sampled_from([1, 2, 16]),
)
def test_both_lanes_get_what_they_were_promised_while_both_wait(
    batch_size: int, share: float, bulk_views: int, views: int
) -> None:
    device = Device(Bounds(batch_size=batch_size, images=10**6, bulk_share=share, size_bytes=10**9))
    device.submit(BULK, images=10**5, views=bulk_views)
    device.submit(INTERACTIVE, images=10**5, views=views)
    work = {INTERACTIVE: 0, BULK: 0}
    largest = max(2 * batch_size, 1 + bulk_views, 1 + views)
    for _ in range(100):
        chosen = device.step()
        for lane, images in lanes(chosen).items():
            work[lane] += images * (1 + (bulk_views if lane is BULK else views))
        due = share * sum(work.values())
        assert work[BULK] >= due - 2 * largest
        assert work[INTERACTIVE] >= sum(work.values()) - due - 2 * largest
