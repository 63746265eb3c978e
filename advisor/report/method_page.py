"""One method explained to a person: what it does, when it wins and loses in the table, what it costs and cannot do."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from advisor.text import bytes_text, duration_text, plural, quality_text, rate_text
from knowledge.methods.base import QUANTIZED_BASES, Method
from knowledge.prior import REFERENCE, method_priors, suite_of
from knowledge.schema import RunRecord
from knowledge.seen import matrix, quantized_columns
from knowledge.shape import NARROW_HIDDEN_SIZE
from knowledge.table import by_measure

LABEL_WIDTH = 12
WIDEST_COLUMNS = 100
# From here on a difference between two runs is told: less is within what a repeated run differs by, or nobody's reason.
NOTICEABLE_METRIC = 0.01
NOTICEABLE_FORGETTING = 0.02  # nats per token
NOTICEABLE_FACTORS = {"peak_bytes": 1.02, "train_s": 1.1, "adapter_bytes": 1.3}
EXACT_CONVERSION = 0.005  # rounding

_SERVED = {
    "adapter": (True, "be served by vLLM as an adapter"),
    "merged": (True, "be served by vLLM after merging"),
    "no": (False, "be served by vLLM"),
}
_SPACE_IN_A_FIGURE = re.compile(r"(?<=\d) (?=\S)")


def method_page(method: Method, records: Sequence[RunRecord], columns: int) -> str:
    """The page in lines of at most `columns` characters."""
    width = min(columns, WIDEST_COLUMNS)
    head = [
        f"{method.title}  ({method.name}, {method.family})",
        "",
        *textwrap.wrap(method.summary, width, break_on_hyphens=False),
        "",
    ]
    if method.special_purpose:
        facts = [("No candidate", f"{method.special_purpose}."), ("Paper", method.paper)]
        return "\n".join([*head, *_labelled(facts, width)])
    good, bad = ([text for is_good, text in _abilities(method) if is_good is kind] for kind in (True, False))
    return "\n".join(
        [
            *head,
            *_labelled(_standing(method, records), width),
            *_labelled([("Costs", _costs(method, records))], width),
            *_labelled([("Can", text) for text in good], width),
            *_labelled([("Cannot", text) for text in bad], width),
            "",
            *_labelled(_settings(method), width),
        ]
    )


def _labelled(facts: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    """'Label       text', wrapped under itself; a label that stands above already is not repeated."""
    previous = None
    for label, text in facts:
        shown = "" if label == previous else label
        lines = textwrap.wrap(
            _SPACE_IN_A_FIGURE.sub("\u00a0", text),  # no line ends between a number and its unit
            width,
            initial_indent=f"{shown:<{LABEL_WIDTH}}  ",
            subsequent_indent=" " * (LABEL_WIDTH + 2),
            break_on_hyphens=False,
        )
        yield from (line.replace("\u00a0", " ") for line in lines)
        previous = label


def _settings(method: Method) -> list[tuple[str, str]]:
    settings = ", ".join(f"{key}={value}" for key, value in method.settings.items())
    instead = "the input" if method.family == "prompt" else "the model's own weights"
    facts = [
        ("Settings", settings or ("PEFT's defaults" if method.peft_type else "–")),
        ("Adapts", method.targets.replace("none", instead)),
        ("Rates", _rates(method)),
        ("Source", method.settings_source),
        ("Paper", method.paper),
        ("Seen working", _architectures(method)),
    ]
    return [(label, text) for label, text in facts if text != "–"]


def _rates(method: Method) -> str:
    usual, narrow = (", ".join(map(rate_text, r)) for r in (method.learning_rates, method.narrow_learning_rates))
    return usual if narrow == usual else f"{usual}; on models with hidden sizes up to {NARROW_HIDDEN_SIZE} {narrow}"


def _architectures(method: Method) -> str:
    """The tiny architectures of the contract tests on which it works, and the others."""
    row = matrix()[method.name]
    in_full = [column for column in row if column not in quantized_columns()]
    works = [column for column in in_full if row[column].works]
    in_4_bits = [column for column in in_full if row[f"{column}-nf4"].works]
    if not works:
        return f"{', '.join(in_4_bits)}, with their bases in 4 bits"
    words = ", ".join(works) + _but("not", [column for column in in_full if column not in works])
    if not in_4_bits:
        return words
    return f"{words}; in 4 bits too{_but('but not', [column for column in works if column not in in_4_bits])}"


def _but(word: str, columns: Sequence[str]) -> str:
    return f" ({word} {', '.join(columns)})" if columns else ""


def _abilities(method: Method) -> list[tuple[bool, str]]:
    """What a user would ask first, as (good news?, text)."""
    can = method.capabilities
    abilities = _serving(method)
    kinds = " or ".join(QUANTIZED_BASES[kind] for kind in can.quantized)
    abilities.append((True, f"train on a base in {kinds}") if kinds else (False, "train on a quantised base"))
    seen = matrix()[method.name].get("llama")
    if seen and seen.works and not seen.beside_others:
        abilities.append((False, "be loaded several times beside one base, to switch between adapters"))
    if seen and (error := seen.lora_error) is not None:
        near = "exactly" if error < EXACT_CONVERSION else f"with an error of {100 * error:.0f} %"
        abilities.append((True, f"be converted {near} to a LoRA of rank 16 (seen on a tiny Llama)"))
    if not can.identity_start:
        abilities.append((False, "start from the base's outputs: early losses look worse than the base model's"))
    if not method.supports_conv1d:
        abilities.append((False, "adapt the Conv1D layers of GPT-2"))
    if method.trains_in_base_dtype:
        abilities.append((False, "train in float16, as on cards before Ampere: it needs bfloat16 or float32"))
    if method.needs_batches:
        abilities.append((False, "start without training data: its initialisation reads a few batches"))
    if method.reference_only:
        abilities.append((False, "be recommended over an adapter: it is measured for comparison"))
    return abilities


def _serving(method: Method) -> list[tuple[bool, str]]:
    if method.peft_type is None:
        return [(True, "be served as any model: the trained weights are its own, and there is no adapter")]
    if method.capabilities.mergeable:
        return [(True, "merge into the base model: no cost at inference"), _SERVED[method.capabilities.vllm]]
    stays = "merge into the base model in general: it stays beside it, which can slow requests down"
    return [(False, stays), _SERVED[method.capabilities.vllm]]


def _costs(method: Method, records: Sequence[RunRecord]) -> str:
    """Time and memory against LoRA, as far as the table knows them."""
    if method.name == REFERENCE:
        return "what all others are measured by"
    prior = method_priors(records, "causal-lm").get(method.name)
    ratios = [(prior.relative_time, "time"), (prior.relative_memory, "memory")] if prior else []
    if parts := [f"{ratio:.2f} times LoRA's {what}" for ratio, what in ratios if ratio]:
        return " and ".join(parts) + " (medians over the table's benchmarks)"
    return "several times LoRA's time or memory" if method.cost == "high" else "no figures in the table"


def _standing(method: Method, records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Its best run beside the best one of LoRA (LoRA's beside the best of the others), suite by suite."""
    ranks, wins, losses = [], [], []
    for name, runs in _largest_eras(records, method.name).items():
        ranked = sorted((r for r in runs if r.metric is not None), key=lambda r: -r.metric)
        mine = next(r for r in ranked if r.method == method.name)
        value = quality_text(mine.metric, mine.metric_name)
        ranks.append(f"{name}: {value} {_words(mine.metric_name)}, {_rank(mine, ranked)}")
        is_rival = (lambda r: r.method != REFERENCE) if method.name == REFERENCE else (lambda r: r.method == REFERENCE)
        rival = next((r for r in ranked if is_rival(r)), None)
        if rival is None:
            continue
        better, worse = _compared(mine, rival)
        against = rival.method if method.name == REFERENCE else "LoRA"
        wins += [f"{name}, against {against}: {', '.join(better)}"] if better else []
        losses += [f"{name}, against {against}: {', '.join(worse)}"] if worse else []
    if not ranks:
        return [("In the table", "no run")]
    return [
        *(("In the table", text) for text in ranks),
        *(("Wins on", text) for text in wins),
        *(("Loses on", text) for text in losses),
    ]


def _rank(run: RunRecord, runs: Sequence[RunRecord]) -> str:
    """'rank 2 of 8 runs'; of runs that are equal none stands before another: 'rank 4 to 6 of 36 runs'."""
    better = sum(r.metric > run.metric for r in runs)
    last = better + sum(r.metric == run.metric for r in runs)
    return f"rank {better + 1}{f' to {last}' if last > better + 1 else ''} of {plural(len(runs), 'run')}"


def _largest_eras(records: Sequence[RunRecord], method: str) -> dict[str, list[RunRecord]]:
    """Suite -> the runs of its benchmark and metric with most runs, of those in which the method has one."""
    largest: dict[str, list[RunRecord]] = {}
    for runs in by_measure(records).values():
        suite = suite_of(runs[0])
        if any(r.method == method and r.metric is not None for r in runs) and len(runs) > len(largest.get(suite, ())):
            largest[suite] = runs
    return largest


def _compared(mine: RunRecord, rival: RunRecord) -> tuple[list[str], list[str]]:
    """What is better and what is worse in `mine`, as 'memory 25.6 GB (22.3 GB)'."""
    better: list[str] = []
    worse: list[str] = []

    def tell(label: str, is_better: bool, one: str, other: str) -> None:
        (better if is_better else worse).append(f"{label} {one} ({other})")

    if abs(mine.metric - rival.metric) >= NOTICEABLE_METRIC:
        values = (quality_text(r.metric, r.metric_name) for r in (mine, rival))
        tell(_words(mine.metric_name), mine.metric > rival.metric, *values)
    for field, label, text in (
        ("peak_bytes", "memory", bytes_text),
        ("train_s", "time", duration_text),
        ("adapter_bytes", "adapter", bytes_text),
    ):
        one, other = getattr(mine, field), getattr(rival, field)
        if one and other and max(one / other, other / one) >= NOTICEABLE_FACTORS[field]:
            tell(label, one < other, text(one), text(other))
    if mine.drift is not None and rival.drift is not None and abs(mine.drift - rival.drift) >= NOTICEABLE_FORGETTING:
        tell(mine.drift_name or "drift", mine.drift < rival.drift, f"{mine.drift:.2f}", f"{rival.drift:.2f}")
    return better, worse


def _words(metric_name: str) -> str:
    return metric_name.removeprefix("test ").replace("_", " ")
