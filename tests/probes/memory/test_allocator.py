"""The rules of PyTorch's caching allocator, with exact numbers, and what must hold for any sequence of requests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.memory.allocator import CachingAllocator, SimulatedOutOfMemory, segment_bytes, to_units

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(("size", "rounded"), [(1, 512), (512, 512), (513, 1024), (1_000_000, 1_000_448)])
def test_requests_are_rounded_up_to_512_bytes(size, rounded):
    allocator = CachingAllocator()
    allocator.allocate("a", size)
    assert allocator.allocated_bytes == rounded == to_units(size) * 512


@pytest.mark.parametrize(
    ("size", "reserved"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB - 1, 10 * MIB),  # after rounding to 512 bytes it is no longer below 10 MiB
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_segments_are_reserved_by_size_class(size, reserved):
    assert segment_bytes(to_units(size) * 512) == reserved
    allocator = CachingAllocator()
    allocator.allocate("a", size)
    assert allocator.reserved_bytes == reserved


def test_nothing_is_reserved_for_empty_tensors():
    allocator = CachingAllocator()
    allocator.allocate("empty", 0)
    allocator.free("empty")
    assert allocator.reserved_bytes == allocator.allocated_bytes == 0


def test_small_and_large_blocks_come_from_different_pools():
    allocator = CachingAllocator()
    allocator.allocate("large", 2 * MIB)  # leaves 18 MiB free in a 20 MiB segment
    allocator.allocate("small", 1 * KIB)
    assert allocator.reserved_bytes == 22 * MIB


def test_a_large_block_is_split_only_if_more_than_one_mebibyte_is_left():
    whole, split = CachingAllocator(), CachingAllocator()
    for allocator, first in ((whole, 19 * MIB), (split, 19 * MIB - 512)):
        allocator.allocate("segment", 20 * MIB)
        allocator.free("segment")
        allocator.allocate("first", first)
    assert whole.allocated_bytes == 20 * MIB  # exactly 1 MiB is left: the block is handed out whole
    assert split.allocated_bytes == 19 * MIB - 512


def test_a_small_block_is_split_down_to_512_bytes():
    allocator = CachingAllocator()
    for i in range(4096):
        allocator.allocate(i, 512)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.allocate("one more", 512)
    assert allocator.reserved_bytes == 4 * MIB


def test_the_smallest_block_that_is_large_enough_is_taken():
    allocator = CachingAllocator()
    for name, size in (("a", 40 * MIB), ("b", 24 * MIB), ("c", 32 * MIB)):
        allocator.allocate(name, size)
    for name in "abc":
        allocator.free(name)
    allocator.allocate("x", 23 * MIB)  # from b; the rest of 1 MiB is too small to split off
    allocator.allocate("y", 32 * MIB)  # c exactly
    allocator.allocate("z", 40 * MIB)  # a is still whole
    assert allocator.reserved_bytes == 96 * MIB
    assert allocator.allocated_bytes == 96 * MIB


def test_freed_neighbours_merge_and_strangers_do_not():
    allocator = CachingAllocator()
    for name in "abc":
        allocator.allocate(name, 6 * MIB)  # three of them share a 20 MiB segment
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free("a")
    allocator.free("c")
    allocator.allocate("needs two neighbours", 9 * MIB)
    assert allocator.reserved_bytes == 40 * MIB
    allocator.free("b")
    allocator.free("needs two neighbours")
    allocator.allocate("whole", 20 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


def test_empty_cache_gives_back_wholly_free_segments_alone():
    allocator = CachingAllocator()
    for name, size in (("kept", 6 * MIB), ("beside it", 6 * MIB), ("alone", 50 * MIB)):
        allocator.allocate(name, size)
    allocator.free("beside it")
    allocator.free("alone")
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    assert allocator.peak_reserved_bytes == 70 * MIB
    allocator.allocate("again", 50 * MIB)
    assert allocator.reserved_bytes == 70 * MIB


def test_at_the_limit_the_cache_is_emptied_before_memory_is_out():
    allocator = CachingAllocator(limit_bytes=100 * MIB)
    allocator.allocate("a", 60 * MIB)
    allocator.free("a")
    allocator.allocate("b", 90 * MIB)
    assert allocator.reserved_bytes == 90 * MIB
    with pytest.raises(SimulatedOutOfMemory, match="20,971,520 bytes asked for"):
        allocator.allocate("c", 20 * MIB)


SIZES = st.one_of(
    st.integers(1, 4 * KIB), st.integers(MIB - KIB, MIB + KIB), st.integers(1, 12 * MIB), st.integers(1, 80 * MIB)
)
# An allocation, or the release of the n-th of what is live at that moment.
EVENTS = st.lists(st.one_of(SIZES, st.integers(-50, -1)), max_size=120)


def replay(events, factor=1):
    """The allocator after the events, and the most bytes that were asked for at once."""
    allocator, live, most = CachingAllocator(), {}, 0
    for number, event in enumerate(events):
        if event > 0:
            live[number] = event * factor
            allocator.allocate(number, live[number])
        elif live:
            handle = list(live)[event % len(live)]
            del live[handle]
            allocator.free(handle)
        most = max(most, sum(live.values()))
        assert sum(live.values()) <= allocator.allocated_bytes <= allocator.reserved_bytes
    return allocator, live, most


@settings(max_examples=150)
@given(EVENTS)
def test_reserved_is_never_below_what_is_live_and_all_of_it_comes_back(events):
    allocator, live, most = replay(events)
    assert allocator.peak_reserved_bytes >= allocator.peak_allocated_bytes >= most
    for handle in live:
        allocator.free(handle)
    assert allocator.allocated_bytes == 0
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


@settings(max_examples=100)
@given(st.lists(SIZES, max_size=60))
def test_more_requests_never_reserve_less(sizes):
    peaks = [replay(sizes[:count])[0].peak_reserved_bytes for count in range(len(sizes) + 1)]
    assert peaks == sorted(peaks)


@settings(max_examples=100)
@given(EVENTS)
def test_many_events_at_once_are_the_same_as_one_by_one(events):
    one_by_one, _, _ = replay(events)
    handles, units, alive = [], [], {}
    for number, event in enumerate(events):
        if event > 0:
            alive[number] = event
            handles.append(number)
            units.append(to_units(event))
        elif alive:
            handle = list(alive)[event % len(alive)]
            del alive[handle]
            handles.append(handle)
            units.append(0)
    at_once = CachingAllocator()
    at_once.run(handles, units)
    assert at_once.reserved_bytes == one_by_one.reserved_bytes
    assert at_once.peak_allocated_bytes == one_by_one.peak_allocated_bytes
