"""Makes data/debian_sections.jsonl: one-line descriptions of Debian packages, labelled with their archive section.

    apt-get update && python -m examples.study.debian_sections

Reads the package lists that apt keeps (`apt-cache dumpavail`), so the rows follow the Debian release at hand.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SECTIONS = ("admin", "devel", "games", "graphics", "net", "science", "sound", "text")
ROWS_PER_SECTION = 340
FILE = Path(__file__).parent / "data" / "debian_sections.jsonl"


def packages(listing: str) -> Iterator[dict[str, str]]:
    """The fields of each package; continuation lines are left out."""
    for paragraph in listing.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if not line.startswith(" ")]
        yield dict(line.split(": ", 1) for line in lines if ": " in line)


def programs(listing: str) -> Iterator[dict[str, str]]:
    """One package of each source package, and no description twice: the parts of one program ("... - documentation",
    "... - data files") would leak into the held-out rows."""
    seen_sources: set[str] = set()
    seen_texts: set[str] = set()
    found = [p for p in packages(listing) if p.get("Section") in SECTIONS and "Description" in p]
    # The shortest name of a source is the program itself; its libraries, data and documentation add a suffix.
    for package in sorted(found, key=lambda p: (len(p["Package"]), p["Package"])):
        source = package.get("Source", package["Package"]).split()[0]
        text = package["Description"].strip()
        if source in seen_sources or text.casefold() in seen_texts or "transitional" in text:
            continue
        seen_sources.add(source)
        seen_texts.add(text.casefold())
        yield package


def balanced(texts_by_label: Mapping[str, Sequence[str]], count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` rows of every label, shuffled."""
    draw = random.Random(seed)
    chosen = [
        {"text": text, "label": label}
        for label, texts in texts_by_label.items()
        for text in draw.sample(sorted(texts), count)
    ]
    draw.shuffle(chosen)
    return chosen


def rows(listing: str) -> list[dict[str, str]]:
    """As many rows of every section, shuffled."""
    by_section: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for package in programs(listing):
        by_section[package["Section"]].append(package["Description"].strip())
    return balanced(by_section, ROWS_PER_SECTION)


def available() -> str:
    """The package lists that apt keeps, as one text."""
    return subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout


def main() -> None:
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(available())), encoding="utf-8")


if __name__ == "__main__":
    main()
