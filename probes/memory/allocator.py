"""PyTorch's CUDA caching allocator, replayed in plain Python: what `torch.cuda.max_memory_reserved()` would say.

The rules and constants are those of `c10/cuda/CUDACachingAllocator.cpp` (PyTorch 2.x, default settings, one stream):
every request is rounded up to 512 bytes; requests of up to 1 MiB are cut from 2 MiB segments, those under 10 MiB
from 20 MiB segments, larger ones get a segment of their own rounded up to 2 MiB; the smallest free block that is
large enough is taken and its rest split off; a freed block merges with its free neighbours in the same segment;
`empty_cache` gives back segments that are wholly free.

Inside, sizes and addresses count in units of 512 bytes. A free block is one integer, `size << ADDRESS_BITS | address`,
so that one sorted list of integers gives best fit with ties broken by address, as the original does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Sequence

UNIT_BYTES = 512
SMALL_REQUEST_BYTES = 1 << 20
SMALL_SEGMENT_BYTES = 2 << 20
LARGE_REQUEST_BYTES = 10 << 20
LARGE_SEGMENT_BYTES = 20 << 20
SEGMENT_ROUNDING_BYTES = 2 << 20

SMALL_REQUEST = SMALL_REQUEST_BYTES // UNIT_BYTES
ADDRESS_BITS = 44
ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


class SimulatedOutOfMemory(MemoryError):
    """A request did not fit under the limit, even after the cache was emptied."""


def to_units(size_bytes: int) -> int:
    """Size in units of 512 bytes, rounded up; what `round_size` does."""
    return -(-size_bytes // UNIT_BYTES)


def segment_bytes(size_bytes: int) -> int:
    """How much is reserved from the driver for a request that no cached block can serve."""
    if size_bytes <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < LARGE_REQUEST_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size_bytes // SEGMENT_ROUNDING_BYTES) * SEGMENT_ROUNDING_BYTES


class _Pool:
    """Free blocks of one size class. `sizes` and `starts_by_end` find a block's free neighbours when it is freed."""

    __slots__ = ("by_size", "segments", "sizes", "smallest_rest", "starts_by_end")

    def __init__(self, smallest_rest: int) -> None:
        self.by_size: list[int] = []
        self.sizes: dict[int, int] = {}
        self.starts_by_end: dict[int, int] = {}
        self.segments: dict[int, int] = {}
        self.smallest_rest = smallest_rest

    def insert(self, start: int, size: int) -> None:
        self.sizes[start] = size
        self.starts_by_end[start + size] = start
        insort(self.by_size, size << ADDRESS_BITS | start)

    def remove(self, start: int, size: int) -> None:
        del self.sizes[start]
        del self.starts_by_end[start + size]
        del self.by_size[bisect_left(self.by_size, size << ADDRESS_BITS | start)]


class CachingAllocator:
    """State of the allocator. `limit_bytes` bounds what may be reserved; None is a card without end."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        # A small block splits whenever 512 bytes are left, a large one when more than 1 MiB is.
        self._small = _Pool(smallest_rest=1)
        self._large = _Pool(smallest_rest=SMALL_REQUEST + 1)
        self._live: dict[Hashable, tuple[int, int, _Pool]] = {}
        self._next_address = 1
        self._limit = None if limit_bytes is None else limit_bytes // UNIT_BYTES
        self._allocated = self._peak_allocated = self._reserved = self._peak_reserved = 0

    @property
    def allocated_bytes(self) -> int:
        return self._allocated * UNIT_BYTES

    @property
    def reserved_bytes(self) -> int:
        return self._reserved * UNIT_BYTES

    @property
    def peak_allocated_bytes(self) -> int:
        return self._peak_allocated * UNIT_BYTES

    @property
    def peak_reserved_bytes(self) -> int:
        return self._peak_reserved * UNIT_BYTES

    def allocate(self, handle: Hashable, size_bytes: int) -> None:
        """Serves a request of `size_bytes` (none if 0) and remembers it as `handle`."""
        if size_bytes > 0:
            self.run((handle,), (to_units(size_bytes),))

    def free(self, handle: Hashable) -> None:
        """Gives back what `handle` holds; unknown handles are ignored, as empty tensors hold nothing."""
        self.run((handle,), (0,))

    def free_all(self, chosen: Callable[[Hashable], bool]) -> None:
        """Gives back everything whose handle is chosen."""
        for handle in [handle for handle in self._live if chosen(handle)]:
            self.free(handle)

    def run(self, handles: Sequence[Hashable], units: Sequence[int]) -> None:
        """Many events: an allocation of `units` blocks of 512 bytes, or a release where `units` is 0.

        A replay is millions of events, so each is served here without a call, and a free block's entries are changed
        in place where that saves removing them.
        """
        live, small, large = self._live, self._small, self._large
        for handle, size in zip(handles, units, strict=True):
            if size:
                pool = small if size <= SMALL_REQUEST else large
                by_size, sizes, starts_by_end = pool.by_size, pool.sizes, pool.starts_by_end
                position = bisect_left(by_size, size << ADDRESS_BITS)
                if position == len(by_size):
                    pool.insert(*self._reserve_segment(pool, size))
                    position = bisect_left(by_size, size << ADDRESS_BITS)
                block = by_size.pop(position)
                start, block_size = block & ADDRESS_MASK, block >> ADDRESS_BITS
                del sizes[start]
                rest = block_size - size
                if rest >= pool.smallest_rest:
                    starts_by_end[start + block_size] = start + size
                    sizes[start + size] = rest
                    insort(by_size, rest << ADDRESS_BITS | start + size)
                else:
                    del starts_by_end[start + block_size]
                    size = block_size
                live[handle] = (start, size, pool)
                self._allocated += size
                if self._allocated > self._peak_allocated:
                    self._peak_allocated = self._allocated
            elif handle in live:
                start, size, pool = live.pop(handle)
                by_size, sizes, starts_by_end = pool.by_size, pool.sizes, pool.starts_by_end
                self._allocated -= size
                end = start + size
                before = starts_by_end.pop(start, None)
                if before is not None:
                    del by_size[bisect_left(by_size, start - before << ADDRESS_BITS | before)]
                    start = before
                after = sizes.pop(end, None)
                if after is not None:
                    del by_size[bisect_left(by_size, after << ADDRESS_BITS | end)]
                    end += after
                sizes[start] = end - start
                starts_by_end[end] = start
                insort(by_size, end - start << ADDRESS_BITS | start)

    def empty_cache(self) -> None:
        """Gives wholly free segments back to the driver."""
        for pool in (self._small, self._large):
            for start, size in list(pool.segments.items()):
                if pool.sizes.get(start) == size:
                    pool.remove(start, size)
                    del pool.segments[start]
                    self._reserved -= size

    def _reserve_segment(self, pool: _Pool, size: int) -> tuple[int, int]:
        segment = segment_bytes(size * UNIT_BYTES) // UNIT_BYTES
        if self._limit is not None and self._reserved + segment > self._limit:
            self.empty_cache()
            if self._reserved + segment > self._limit:
                raise SimulatedOutOfMemory(
                    f"{size * UNIT_BYTES:,} bytes asked for, {self.reserved_bytes:,} of "
                    f"{self._limit * UNIT_BYTES:,} bytes reserved and in use"
                )
        start = self._next_address
        self._next_address += segment + 1  # a gap of one unit, so that segments never merge
        self._reserved += segment
        self._peak_reserved = max(self._peak_reserved, self._reserved)
        pool.segments[start] = segment
        return start, segment
