"""The data formats that can be read: one file each, found by pkgutil. A new format is a new file here, nothing else.

A format file defines
    NAME            unique, lower case with dashes; what `--format` takes
    SUMMARY         one phrase with the keys that it needs, shown where a record fits no format
    PRECEDENCE      int; where a row fits several formats the higher wins (more keys required = higher)
    CLASSIFICATION  True where a row carries a class label instead of a text to learn
    EXAMPLE         a row of the format; the contract tests use it
    matches(row)    True where the row (a dict) has the keys and types of the format
    to_segments(row, chat)   the row as [(text, trained), ...]; only the trained texts bear labels
    label_of(row)            only where CLASSIFICATION: the label, a str or an int

`matches`, `to_segments` and `label_of` are pure and self-contained: no imports, no module globals, no helpers. Their
source is written verbatim into the generated training script (inspect.getsource), so that the final run sees
exactly what the probes saw. `chat(messages, tools=None, first_trained=0)` renders a conversation as segments;
see probes.data.chats.chat_segments.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from knowledge.errors import BadInput, did_you_mean

Row = dict[str, Any]
Segment = tuple[str, bool]
Segments = list[Segment]
Chat = Callable[..., Segments]


@dataclass(frozen=True)
class DataFormat:
    """One data format; the fields are those of its file, see the package's docstring."""

    name: str
    summary: str
    precedence: int
    classification: bool
    example: Row
    matches: Callable[[Row], bool]
    to_segments: Callable[[Row, Chat], Segments]
    label_of: Callable[[Row], str | int] | None

    def of_use(self, row: Row) -> Row:
        """What the format looks at in a row that fits it: images and embeddings beside a text are not worth keeping."""
        from probes.data.chats import chat_segments

        looked_at = _LookedAt(row)
        self.matches(looked_at)
        self.to_segments(looked_at, partial(chat_segments, None))
        if self.label_of is not None:
            self.label_of(looked_at)
        return {key: value for key, value in row.items() if key in looked_at.keys_asked}


class _LookedAt(dict):
    """A row that remembers which of its keys were asked for."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.keys_asked: set[object] = set()

    def __getitem__(self, key: object) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)

    def get(self, key: object, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(key)
        return super().__contains__(key)


@cache
def all_formats() -> tuple[DataFormat, ...]:
    """Every format, the most specific first."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    formats = [
        DataFormat(
            name=module.NAME,
            summary=module.SUMMARY,
            precedence=module.PRECEDENCE,
            classification=module.CLASSIFICATION,
            example=module.EXAMPLE,
            matches=module.matches,
            to_segments=module.to_segments,
            label_of=getattr(module, "label_of", None),
        )
        for module in modules
    ]
    return tuple(sorted(formats, key=lambda f: (-f.precedence, f.name)))


def get_format(name: str) -> DataFormat:
    """The format of that name. Raises BadInput with the near names where there is none."""
    for known in all_formats():
        if known.name == name:
            return known
    raise BadInput(f"Unknown data format {name!r}. {did_you_mean(name, [f.name for f in all_formats()])}")


NO_REGRESSION = "Classes are learned here, not numbers: write what is meant as a class as a name or a whole number."
PREFERENCE_KEYS = frozenset({"chosen", "rejected"})  # of data for DPO and the like


def detect_format(rows: Sequence[tuple[int, Row]]) -> DataFormat:
    """The most specific format that fits nearly as many of the first `rows` (line number, row) as any other.

    A few odd rows, such as texts without their label, must not turn a file into another format: they are left to the
    skip budget. Raises BadInput where no format fits half of the rows, with the first line that fits none, its keys and
    the known formats, or with the formats that are mixed; and where half of the rows have all keys of a more specific
    format that others do not fit.
    """
    fits = {f.name: sum(f.matches(row) for _, row in rows) for f in all_formats()}
    best = next(f for f in all_formats() if fits[f.name] >= 0.8 * max(fits.values()))
    if 2 * fits[best.name] < len(rows):
        odd = next(((line, row) for line, row in rows if not any(f.matches(row) for f in all_formats())), None)
        if odd is None:
            mixed = ", ".join(f"{count} in {name}" for name, count in fits.items() if count)
            raise BadInput(
                f"The rows are of several formats (of the first {len(rows)}: {mixed}). Bring them into one, or name "
                "the one that counts with --format."
            )
        line, row = odd
        if row.keys() >= PREFERENCE_KEYS:
            raise BadInput(
                f"Line {line} is a preference. {describe_keys(row)} Texts are learned here, not preferences: write "
                "the chosen answers as messages, or as prompt and completion, and race on these."
            )
        raise BadInput(
            f"Line {line} fits no known data format. {describe_keys(row)}\n{known_formats()}\n"
            "Say which columns are meant, as in --columns text=review,label=stars, or name the format with --format."
        )
    for closer in all_formats()[: all_formats().index(best)]:
        has_keys = [all(row.get(key) is not None for key in closer.example) for _, row in rows]
        if 2 * sum(has_keys) >= len(rows):
            line, row = next((line, row) for line, row in rows if not closer.matches(row))
            is_number = closer.classification and any(isinstance(row.get(key), float) for key in closer.example)
            raise BadInput(
                f"Most rows have the keys of the format {closer.name}, but line {line} does not fit it: it needs "
                f"{closer.summary}. {describe_keys(row)} {NO_REGRESSION + ' ' if is_number else ''}"
                "Correct such rows, or name with --format what to read them as."
            )
    return best


def describe_keys(row: Row) -> str:
    """The keys of a row with the types of their values, for messages; at most twelve."""
    keys = ", ".join(f"{key!r} ({type(value).__name__})" for key, value in list(row.items())[:12])
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"Keys seen: {keys or 'none'}{more}."


def known_formats() -> str:
    """The formats with their keys, one a line, for messages."""
    width = max(len(f.name) for f in all_formats())
    return "Known formats:\n" + "\n".join(f"  {f.name:<{width}}  {f.summary}" for f in all_formats())
