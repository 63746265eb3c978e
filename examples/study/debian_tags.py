"""Makes data/debian_interfaces.jsonl and data/debian_languages.jsonl: one-line descriptions of Debian programs,
labelled with what their packagers say of them, how one uses the program and what it is written in.

    apt-get update && python -m examples.study.debian_tags

A line tells the first in most cases and the second seldom: what it leaves open cannot be learned, only learned by
heart. Reads what debian_sections.py reads.
"""

from __future__ import annotations

import json
from pathlib import Path

from examples.study.debian_sections import available, balanced, programs

FOLDER = Path(__file__).parent / "data"
INTERFACES, LANGUAGES = FOLDER / "debian_interfaces.jsonl", FOLDER / "debian_languages.jsonl"
KINDS = {
    INTERFACES: {"interface::commandline": "command line", "interface::x11": "windows"},
    LANGUAGES: {f"implemented-in::{name}": name for name in ("c", "c++", "perl", "python")},
}
LARGEST_CLASS = 900


def rows(listing: str, labels: dict[str, str]) -> list[dict[str, str]]:
    """The programs that have exactly one of the tags, as many of each, shuffled."""
    by_label: dict[str, list[str]] = {label: [] for label in labels.values()}
    for package in programs(listing.replace(",\n ", ", ")):  # tags go on over several lines
        tags = set(package.get("Tag", "").split(", "))
        found = [label for tag, label in labels.items() if tag in tags]
        if "role::program" in tags and len(found) == 1:
            by_label[found[0]].append(package["Description"].strip())
    return balanced(by_label, min(LARGEST_CLASS, *map(len, by_label.values())))


def main() -> None:
    listing = available()
    for file, labels in KINDS.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(listing, labels))
        file.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
