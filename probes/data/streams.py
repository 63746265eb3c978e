"""Raw streams below the reader: one that decompresses, one that reports how far it was read."""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO

from knowledge.errors import BadInput


def decompress(stream: BinaryIO, compression: str, name: str) -> BinaryIO:
    """`compression`: gzip, bz2, zstd or xz. Reading raises BadInput, with the file's `name`, where the content is
    damaged."""
    if compression == "xz":  # pyarrow has no codec for it
        return _Decompressed(lzma.open(stream), name)
    import pyarrow

    return _Decompressed(pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, "r"), compression), name)


class _Decompressed(io.RawIOBase):
    """A decompressed stream as a raw stream of Python; a corrupt archive becomes BadInput."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._stream.read(len(buffer))
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise BadInput(
                f"{self._name} is damaged, it cannot be decompressed: {error}. Compress or download it again."
            ) from error
        buffer[: len(content)] = content
        return len(content)


class Watched(io.RawIOBase):
    """A raw stream that reports how far it was read."""

    def __init__(self, stream: BinaryIO, total_bytes: int, on_progress: Callable[[int, int], None] | None) -> None:
        self._stream, self._total_bytes, self._on_progress, self._done = stream, total_bytes, on_progress, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._done += count
        if self._on_progress is not None:
            self._on_progress(self._done, self._total_bytes)
        return count
