"""Cards that can be planned for without being there: `--vram 24GB` and `--gpu "RTX 4090"`."""

from __future__ import annotations

import re

from knowledge.errors import BadInput, did_you_mean

# Memory as the driver reports it (nvidia-smi, MiB), which is a little less than the label says.
CARD_MIB = {
    "Tesla P100 16GB": 16384,
    "Tesla T4": 15360,
    "Tesla V100 16GB": 16384,
    "Tesla V100 32GB": 32768,
    "A10": 23028,
    "A10G": 23028,
    "A100 40GB": 40960,
    "A100 80GB": 81920,
    "L4": 23034,
    "L40S": 46068,
    "H100 80GB": 81559,
    "H200": 143771,
    "B200": 183359,
    "RTX 3060": 12288,
    "RTX 3080": 10240,
    "RTX 3090": 24576,
    "RTX 4060 Ti 16GB": 16380,
    "RTX 4070": 12282,
    "RTX 4080": 16376,
    "RTX 4090": 24564,
    "RTX 5080": 16303,
    "RTX 5090": 32607,
    "RTX A5000": 24564,
    "RTX A6000": 49140,
    "RTX 6000 Ada": 49140,
    "RTX PRO 6000": 97887,
}


def parse_memory_bytes(text: str | int) -> int:
    """Bytes of '24GB' (10^9 each), '24GiB' (2^30 each), '24g', '24000 MB' or a plain number.

    A card sold as 24 GB has nearly 24 GiB; what GB leaves out here is about what the driver and the CUDA context take.
    Raises BadInput for anything else, and for less than 256 MiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(text), flags=re.IGNORECASE)
    if match is None:
        raise BadInput(f"{text!r} is no amount of memory. Write it like 24GB or 24000MB.")
    number, unit = float(match[1]), match[2].lower()
    amount = int(number * (1024 if match[3] else 1000) ** " kmgt".index(unit or " "))
    if amount < 256 * 2**20:
        raise BadInput(f"{text!r} is {amount:,} bytes, too little to train any model. Write it like 24GB.")
    return amount


def card_by_name(name: str) -> tuple[str, int]:
    """(full name, bytes) of the card meant by e.g. '4090' or 'a100 80gb'. Raises BadInput unless it is exactly one."""
    wanted = _plain(name)
    exact = [card for card in CARD_MIB if _plain(card) == wanted]
    matches = exact or [card for card in CARD_MIB if wanted and wanted in _plain(card)]
    if len(matches) == 1:
        return matches[0], CARD_MIB[matches[0]] * 2**20
    if matches:
        raise BadInput(f"{name!r} may be {' or '.join(matches)}. Name one of them, or give --vram.")
    raise BadInput(f"Unknown card {name!r}. {did_you_mean(name, list(CARD_MIB))} Or give its memory with --vram 24GB.")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|geforce|tesla|[^a-z0-9]", "", name.lower())
