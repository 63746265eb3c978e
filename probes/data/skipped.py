"""Which rows of a file cannot be used, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from knowledge.errors import BadInput

SKIP_BUDGET = 0.01
FEW_ROWS = 3  # passed over also of a small file, where a hundredth of the rows is none
SMALL_SHARE = 10  # as long as they are no more than so many times the budget
_JSON_LINES = (
    "Each line is one JSON object: `jq -c .` writes objects so, `jq -c '.[]'` the objects of an array; an array as a "
    "whole is read where the file is named .json."
)
# What helps against a kind of fault.
ADVICE = {
    "not JSON": _JSON_LINES,
    "not a JSON object": _JSON_LINES,
    "not CSV": "A value with a quote or a separator in it stands in quotes, and quotes within are doubled: "
    '"say ""hi""". Let Python\'s csv or pandas write the file, or convert it to JSON Lines.',
}


@dataclass
class SkipLedger:
    """Rows that cannot be used, with their reasons, against a budget: a few are passed over, many are a failure."""

    source: str
    budget: float = SKIP_BUDGET
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)
    advice: dict[str, str] = field(default_factory=ADVICE.copy)
    """By kind of fault."""

    def reject(self, line: int, kind: str, detail: str = "") -> None:
        """Skip a row that was read and counted, but proved to be of no use."""
        self.rows -= 1
        self.skip(line, kind, detail)

    def skip(self, line: int, kind: str, detail: str = "", rows: int = 1) -> None:
        """Record one skipped row, or `rows` at once. `kind` groups the reasons, `detail` is kept for the first few."""
        self.skipped[kind] += rows
        if len(self.first) < 5:
            self.first.append(f"line {line}: {kind}{f' ({detail})' if detail else ''}")
        if self.skipped.total() >= 1000:  # do not read on through a file that is broken throughout
            self.check()

    def check(self) -> None:
        """Raise BadInput where more than the budget was skipped."""
        seen, total = self.rows + self.skipped.total(), self.skipped.total()
        if total > max(self.budget * seen, min(FEW_ROWS, SMALL_SHARE * self.budget * seen)):
            faults = "\n".join(f"  {fault}" for fault in self.first)
            more = f"\n  and {total - len(self.first)} more" if total > len(self.first) else ""
            advice = " ".join(dict.fromkeys(words for kind, words in self.advice.items() if kind in self.skipped))
            raise BadInput(
                f"{total} of {seen} rows of {self.source} cannot be used, more than the {100 * self.budget:.0f} % that "
                f"are passed over:\n{faults}{more}\nCorrect these lines. {advice}".rstrip()
            )
