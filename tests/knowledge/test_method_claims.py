"""What the catalogue says of its methods in figures, held against the benchmark table and the catalogue itself."""

from __future__ import annotations

import pytest

from knowledge.methods import all_methods, get_method
from knowledge.table import by_benchmark, load

RUNS = by_benchmark(load(include_user=False))
PUBLIC = "metamathqa/llama-3.2-3b/transformers5-cuda13.0"
# The query and value projections of Llama-3.2-3B: 28 layers of 3072 x 3072 and 3072 x 1024.
QV_ENTRIES = 28 * 3072 * (3072 + 1024)


def best(name, benchmark=PUBLIC):
    """The method's best run of the benchmark."""
    return max((r for r in RUNS[benchmark] if r.method == name), key=lambda r: r.metric)


def times(field, one, other="lora"):
    """How many times the field of `other` that of `one` is in the public benchmark."""
    return getattr(best(one), field) / getattr(best(other), field)


def everywhere(field, one, other="lora"):
    """The same in each benchmark that holds both."""
    both = [name for name, runs in RUNS.items() if {one, other} <= {r.method for r in runs}]
    return [getattr(best(one, name), field) / getattr(best(other, name), field) for name in both]


def is_among_the_lowest(field, name, count=6):
    """Whether the method is among the lowest of the public benchmark."""
    lowest = sorted(RUNS[PUBLIC], key=lambda r: getattr(r, field))
    return name in [r.method for r in lowest[:count]]


def trains_in_4_bits(name):
    return "nf4" in get_method(name).capabilities.quantized


def oft_beats_lora_of_rank_32_on_images():
    images = next(runs for name, runs in RUNS.items() if name.startswith("image-gen"))
    lora = next(r for r in images if r.method == "lora" and r.peft_config["r"] == 32)
    oft = next(r for r in images if r.method == "oft")
    return oft.metric > lora.metric and oft.peak_bytes < lora.peak_bytes


CLAIMS = {
    "beft": [
        ("Among the smallest adapters", lambda: is_among_the_lowest("adapter_bytes", "beft")),
        ("tens of thousands in a large one", lambda: 10_000 < best("beft").trainable_parameters < 100_000),
        ("among the smallest in memory", lambda: is_among_the_lowest("peak_bytes", "beft")),
    ],
    "lily": [
        ("Led the public benchmark", lambda: best("lily").metric == max(r.metric for r in RUNS[PUBLIC])),
        ("forgot four times as much as LoRA", lambda: 3.5 <= times("drift", "lily") < 4.5),
    ],
    "full": [("at nearly twice LoRA's memory or more", lambda: min(everywhere("peak_bytes", "full")) > 1.7)],
    "psoft": [
        ("with a quarter of its parameters", lambda: 0.2 < times("trainable_parameters", "psoft", "oft") < 0.3),
        ("in the same time", lambda: 0.95 < times("train_s", "psoft", "oft") < 1.05),
    ],
    "mica": [
        ("Fewer trainable parameters than LoRA", lambda: times("trainable_parameters", "mica") < 0.7),
        ("on the public benchmark it forgot more", lambda: times("drift", "mica") > 1.0),
    ],
    "vera": [
        (
            "One to four hundredths of LoRA's parameters",
            lambda: all(0.01 < share < 0.045 for share in everywhere("trainable_parameters", "vera")),
        )
    ],
    "randlora": [
        ("About as many parameters as LoRA", lambda: 0.9 < times("trainable_parameters", "randlora") < 1.1),
        (
            "cost time and memory",
            lambda: times("train_s", "randlora") > 1.3 and times("peak_bytes", "randlora") > 1.0,
        ),
    ],
    "vblora": [("an eighth of LoRA's", lambda: 0.12 < times("adapter_bytes", "vblora") < 0.14)],
    "c3a": [
        ("fewer parameters than LoRA", lambda: max(everywhere("trainable_parameters", "c3a")) < 0.7),
        (
            "a thousand times LoRA's",
            lambda: get_method("c3a").default_learning_rate == 1000 * get_method("lora").default_learning_rate,
        ),
    ],
    "shira": [
        ("as many as a LoRA would have", lambda: times("trainable_parameters", "shira") == 1.0),
        ("a few percent in large models", lambda: 0.01 < best("shira").trainable_parameters / QV_ENTRIES < 0.05),
    ],
    "boft": [("Seven times slower than LoRA", lambda: 6.5 < times("train_s", "boft") < 7.5)],
    "adamss": [("five times slower than LoRA", lambda: 4.5 < times("train_s", "adamss") < 5.5)],
    "loha": [("twice LoRA's parameters", lambda: times("trainable_parameters", "loha") == 2.0)],
    "miss": [
        ("As good as LoRA", lambda: times("metric", "miss") > 0.99),
        ("with less memory", lambda: times("peak_bytes", "miss") < 0.95),
    ],
    "miss-bat": [
        ("A little better than MiSS", lambda: 1.0 < times("metric", "miss-bat", "miss") < 1.05),
        ("and slower", lambda: times("train_s", "miss-bat", "miss") > 1.1),
    ],
    "lora-mlp": [("it beat LoRA on the attention", lambda: times("metric", "lora-mlp") > 1.02)],
    "dora": [("slower", lambda: times("train_s", "dora") > 1.2)],
    "osf": [("with its memory", lambda: 0.95 < times("peak_bytes", "osf", "full") < 1.05)],
    "oft": [
        ("it beat LoRA of rank 32 with less memory", oft_beats_lora_of_rank_32_on_images),
        ("Forgets little", lambda: times("drift", "oft") < 1.0),
    ],
    "qlora": [
        (
            "as LoRA itself and others of its kin can",
            lambda: all(trains_in_4_bits(name) for name in ("lora", "rslora", "dora", "lora-plus", "eva", "adalora")),
        )
    ],
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_summary_says_in_figures_is_so(name):
    for words, holds in CLAIMS[name]:
        assert words in get_method(name).summary
        assert holds(), words


def test_no_summary_says_all_where_some_cannot():
    cannot = [m.name for m in all_methods().values() if m.peft_type == "LORA" and not trains_in_4_bits(m.name)]
    assert cannot and "every other LoRA" not in get_method("qlora").summary
