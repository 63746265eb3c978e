"""GPUs and their memory, and sizes as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from knowledge.errors import BadInput, did_you_mean

MIB, GIB = 1 << 20, 1 << 30

# Total memory in MiB as `nvidia-smi` shows it (ECC in its delivery state where the card has it), or for AMD as
# `rocm-smi` does. It is less than the number on the box, and a little more than CUDA offers (`driver_bytes`).
MEMORY_MIB: Mapping[str, int] = {
    "NVIDIA B200": 183359,
    "NVIDIA H200": 143771,
    "NVIDIA H200 NVL": 143771,
    "NVIDIA GH200 96GB": 97871,
    "NVIDIA GH200 480GB": 97871,  # the driver's name for the same: 480 GB has the processor beside it
    "NVIDIA H100 80GB": 81559,
    "NVIDIA H100 NVL 94GB": 95830,
    "NVIDIA A100 80GB": 81920,
    "NVIDIA A100 40GB": 40960,
    "NVIDIA L40S": 46068,
    "NVIDIA L40": 46068,
    "NVIDIA L4": 23034,
    "NVIDIA A40": 46068,
    "NVIDIA A30": 24576,
    "NVIDIA A10": 23028,
    "NVIDIA A10G": 23028,
    "NVIDIA A16": 15356,
    "NVIDIA A2": 15356,
    "NVIDIA T4": 15360,
    "NVIDIA V100 32GB": 32768,
    "NVIDIA V100 16GB": 16384,
    "NVIDIA P100 16GB": 16280,
    "NVIDIA RTX PRO 6000 Blackwell": 97887,
    "NVIDIA RTX PRO 6000 Blackwell Max-Q": 97887,
    "NVIDIA RTX 6000 Ada": 49140,
    "NVIDIA RTX 5000 Ada": 32760,
    "NVIDIA RTX 4500 Ada": 24570,
    "NVIDIA RTX 4000 Ada": 20475,
    "NVIDIA RTX A6000": 49140,
    "NVIDIA RTX A5000": 24564,
    "NVIDIA RTX A4000": 16376,
    "NVIDIA GeForce RTX 5090": 32607,
    "NVIDIA GeForce RTX 5080": 16303,
    "NVIDIA GeForce RTX 5070 Ti": 16303,
    "NVIDIA GeForce RTX 5070": 12227,
    "NVIDIA GeForce RTX 5060 Ti 16GB": 16311,
    "NVIDIA GeForce RTX 5060": 8151,
    "NVIDIA GeForce RTX 5060 Ti 8GB": 8151,
    "NVIDIA GeForce RTX 4090": 24564,
    "NVIDIA GeForce RTX 4080 SUPER": 16376,
    "NVIDIA GeForce RTX 4080": 16376,
    "NVIDIA GeForce RTX 4070 Ti SUPER": 16376,
    "NVIDIA GeForce RTX 4070 Ti": 12282,
    "NVIDIA GeForce RTX 4070 SUPER": 12282,
    "NVIDIA GeForce RTX 4070": 12282,
    "NVIDIA GeForce RTX 4060 Ti 16GB": 16380,
    "NVIDIA GeForce RTX 4060 Ti 8GB": 8188,
    "NVIDIA GeForce RTX 4060": 8188,
    "NVIDIA GeForce RTX 3090 Ti": 24564,
    "NVIDIA GeForce RTX 3090": 24576,
    "NVIDIA GeForce RTX 3080 Ti": 12288,
    "NVIDIA GeForce RTX 3080": 10240,
    "NVIDIA GeForce RTX 3070": 8192,
    "NVIDIA GeForce RTX 3060": 12288,
    "NVIDIA GeForce RTX 2080 Ti": 11264,
    "NVIDIA GeForce GTX 1080 Ti": 11264,
    "AMD Instinct MI300X": 196592,
    "AMD Instinct MI250X": 65520,
    "AMD Radeon RX 7900 XTX": 24560,
}

# Cards of the table with a compute capability below 8.0, from which on NVIDIA's have bfloat16 (CUDA C++ programming
# guide, table of features by compute capability).
WITHOUT_BFLOAT16 = frozenset(
    {
        "NVIDIA T4",
        "NVIDIA V100 32GB",
        "NVIDIA V100 16GB",
        "NVIDIA P100 16GB",
        "NVIDIA GeForce RTX 2080 Ti",
        "NVIDIA GeForce GTX 1080 Ti",
    }
)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(?P<number>\d+(?:[.,]\d+)?)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?")
# Words that people leave out or add; they tell no two cards apart.
_FILLER = {
    "nvidia",
    "geforce",
    "amd",
    "instinct",
    "radeon",
    "tesla",
    "gpu",
    "graphics",
    "generation",
    "workstation",
    "server",
    "edition",
    "rtx",
    "gtx",
    "rx",
}
# How a card is mounted and which memory it has, as drivers name it: 'Tesla V100-SXM2-32GB', 'H200 141GB HBM3e'.
_BOARD = re.compile(r"sxm\d?|pcie|hbm\d?e?")
# Words that make another card of one: without them it is not meant.
_TIERS = {"ti", "super", "xtx", "ada", "pro"}
_LIKE_NOMINAL = 0.08  # how far a card's memory may be from the round number that it is sold by


@dataclass(frozen=True)
class Gpu:
    """A card and its total memory."""

    name: str
    memory_bytes: int

    @property
    def driver_bytes(self) -> int:
        """About what NVIDIA's driver keeps of it beside the tensors and contexts of processes: the total that PyTorch
        names in its out-of-memory messages is smaller than nvidia-smi's by .22 GiB of 10 (RTX 3080,
        github.com/zai-org/CogVideo/issues/34), .30 of 24 (RTX 3090, GaoLii/DSP/issues/10), .35 of 24 (RTX 4090,
        ali-vilab/VGen/issues/104), .47 of 24 (A30, google/RB-Modulation/issues/5), .47 of 32 (RTX 5090,
        Wan-Video/Wan2.1/issues/465), .59 of 45 (L40, SafeAILab/EAGLE/issues/68) and .54 of 80 (H100,
        vllm-project/vllm/issues/27508). This is a little more than each."""
        if not self.name.startswith("NVIDIA"):
            return 0
        return round(min(0.3 * GIB + 0.0075 * self.memory_bytes, 0.9 * GIB))

    @property
    def has_bfloat16(self) -> bool:
        return self.name not in WITHOUT_BFLOAT16


def parse_bytes(text: str) -> int:
    """Bytes of a size such as '24GB', '22.5 GiB', '500M' or '1024B': GB is decimal, GiB binary.

    Raises BadInput for anything else, for a number alone, and for a size of zero.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is not None and match["number"] == text.strip():
        raise BadInput(f"{text!r} is no memory size without a unit, e.g. {text}GB (decimal) or {text}GiB (binary).")
    in_thousands = match is not None and re.fullmatch(r"\d+,\d{3}", match["number"])
    if match is None or in_thousands or (match["binary"] and not match["unit"]):
        raise BadInput(
            f"{text!r} is no memory size. Write a number and a unit, e.g. 24GB (decimal) or 22.5GiB (binary)."
        )
    factor = _BINARY_UNITS[match["unit"]] if match["binary"] else _UNITS[match["unit"]]
    size = round(float(match["number"].replace(",", ".")) * factor)
    if size <= 0:
        raise BadInput(f"{text!r} is no memory size: it must be more than zero, e.g. 24GB.")
    return size


def find_gpu(name: str) -> Gpu:
    """The card that is meant by a name such as 'RTX 4090', 'a100 80gb' or 'NVIDIA L40S'.

    A card matches if it has all words of the name, and no further one that makes another card of it ('Ti'); of several
    the one with the fewest further words is meant, and of cards that differ in memory alone ('A100') the smallest.
    Raises BadInput with the nearest names otherwise.
    """
    wanted = _words(name)
    matches = [card for card in MEMORY_MIB if wanted and _is_meant(wanted, card)]
    if not matches:
        near = did_you_mean(_short(name), [_short(card) for card in MEMORY_MIB])
        raise BadInput(f"The memory of a GPU named {name!r} is not known. {near} Or give its memory, e.g. --vram 24GB.")
    best = min(matches, key=lambda card: (len(_words(card) - wanted - _memory_words(card)), MEMORY_MIB[card]))
    return Gpu(best, MEMORY_MIB[best] * MIB)


def smallest_gpu(needed_bytes: int) -> Gpu | None:
    """The NVIDIA card with the least memory that is enough; None if no card is."""
    enough = [
        Gpu(name, mib * MIB)
        for name, mib in MEMORY_MIB.items()
        if name.startswith("NVIDIA") and mib * MIB >= needed_bytes
    ]
    return min(enough, key=lambda card: card.memory_bytes, default=None)


def _short(name: str) -> str:
    """A card's name without its makers': 'RTX 4090', as people call it."""
    return re.sub(r"\b(nvidia|geforce|amd|instinct|radeon)\s+", "", name, flags=re.IGNORECASE)


def _is_meant(wanted: frozenset[str], card: str) -> bool:
    words = _words(card)
    if not _memory_words(card):  # a card that there is with one memory only may still be called by it: 'T4 16GB'
        wanted = frozenset(w for w in wanted if not (_is_memory(w) and _is_sold_with(card, w)))
    return bool(wanted) and wanted <= words and not (words - wanted) & _TIERS


def _is_sold_with(card: str, size: str) -> bool:
    number = int(size.removesuffix("gb"))
    nominal = (number * 10**9, number * (1 << 30))
    return any(abs(MEMORY_MIB[card] * MIB / size_bytes - 1) <= _LIKE_NOMINAL for size_bytes in nominal)


def _is_memory(word: str) -> bool:
    return re.fullmatch(r"\d+gb", word) is not None


def _words(name: str) -> frozenset[str]:
    """The telling words of a card's name: 'RTX4090' and 'GeForce RTX 4090' are the same card, '80 GB' is one word."""
    text = re.sub(r"\b(\d+)\s*gi?b?\b", r"\1gb", name.lower())
    text = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", text)
    text = re.sub(r"(?<=\d{4})(?=ti\b|super\b|xtx\b)", " ", text)
    words = set(re.split(r"[\s\-_/()]+", text)) - _FILLER - {""}
    return frozenset(word for word in words if not _BOARD.fullmatch(word))


def _memory_words(card: str) -> frozenset[str]:
    return frozenset(filter(_is_memory, _words(card)))
