"""`--require`: what is understood, who is taken out for which reason, and what to drop where nobody is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import AutoConfig

from advisor.requirements.effects import (
    advice_on_dropping,
    asks_for_latency,
    effects,
    objection_to,
    parse_checkable,
    parse_requirements,
    unmet,
    violations_of,
    what_to_drop,
    without_violators,
)
from advisor.requirements.kinds import KINDS, WORDS
from advisor.requirements.scope import Scope, bytes_in_4_bits
from knowledge.errors import BadInput
from knowledge.methods import all_methods, get_method
from knowledge.models import known_config
from probes.schema import ProbeOutcome
from tests.advisor.factories import candidate, result

SCOPE = Scope(base_bytes_in_4_bits=50_000_000)


def reasons(reports, *texts, scope=SCOPE):
    return {r.name: r.reason for r in without_violators(reports, texts, scope) if r.status == "excluded"}


def against(name, text, scope=SCOPE):
    """Why the method cannot meet the requirement, from the catalogue alone."""
    return violations_of(get_method(name), parse_requirements([text], scope)).get(text)


def objection(*texts, scope=SCOPE, **fields):
    return objection_to(ProbeOutcome(id="lora", status="finished", **fields), texts, scope)


def test_a_size_that_only_a_probe_tells_is_not_taken_for_small_enough():
    reports = [
        candidate("lora", adapter_bytes=10**6, status="from table"),
        candidate("lily", adapter_bytes=None, status="from table"),
    ]
    assert reasons(reports, "max-adapter-size=50MB") == {"lily": "the size of its adapter is known from a probe alone"}


def test_a_size_that_only_a_probe_tells_is_not_taken_for_small_enough_for_a_small_device():
    reports = [
        candidate(name, adapter_bytes=size, status="from table") for name, size in (("vera", 10**6), ("oft", None))
    ]
    assert reasons(reports, "edge") == {"oft": "the size of its adapter is known from a probe alone"}
    raced = [candidate("oft", adapter_bytes=None, status=status) for status in ("finished", "not tried")]
    assert reasons(raced, "edge", "max-adapter-size=50MB") == {}


def test_of_a_method_that_failed_no_rate_stayed():
    forgets = {"forgetting": 0.5, "forgetting_noise": 0.01}
    reports = [candidate("lora", learning_rate=1e-4, **forgets), candidate("lora", None, status="diverged")]
    [effect] = effects(["max-forgetting=0.1"], without_violators(reports, ["max-forgetting=0.1"], SCOPE))
    assert effect.methods == ("lora",) and effect.rates == 0


def test_what_forgets_too_much_is_out_with_both_figures():
    reports = [candidate("lora", forgetting=0.08), candidate("oft", forgetting=0.25), candidate("vera", forgetting=0.1)]
    assert reasons(reports, "max-forgetting=0.1") == {"oft": "forgets 0.250 nats per token, over 0.1"}
    assert reasons(reports) == {}


def test_what_was_not_measured_is_out_with_the_reason():
    reports = [
        candidate("lora", forgetting=None, forgetting_note="NotFinite: held-out loss is nan"),
        candidate("oft", forgetting=None),
        candidate("vera", status="eliminated", forgetting=None),
    ]
    found = reasons(reports, "max-forgetting=0.1")
    assert found["lora"] == "its forgetting is unknown: NotFinite: held-out loss is nan"
    assert found["oft"] == found["vera"] == "its forgetting is unknown: no probe of it came to its end"


def test_what_is_over_a_limit_need_not_go_on():
    limit = "max-forgetting=0.1"
    assert objection(limit, forgetting=0.16) == "forgets 0.160 nats per token, over 0.1"
    assert objection(limit, forgetting=0.1) is None
    assert objection(limit) is None  # its report will say why it was not measured
    assert objection("mergeable", forgetting=9.0, adapter_bytes=9_000_000) is None
    assert objection("max-adapter-size=5MB", adapter_bytes=9_000_000) == "its adapter has 9.0 MB, over 5.0 MB"
    assert objection("max-latency-overhead=5%", latency_overhead=0.1) is not None


@pytest.mark.parametrize(("forgetting", "told"), [(0.2, ""), (0.4, "forgets 0.400 nats per token, over 0.3")])
def test_what_was_held_on_the_way_and_is_not_at_the_end_is_told(forgetting, told):
    made = result().model_copy(update={"request": {"require": ["mergeable", "max-forgetting=0.3"]}})
    assert unmet(made, ProbeOutcome(id="", status="finished", last_step=9, forgetting=forgetting)) == told
    assert unmet(made.model_copy(update={"request": {}}), ProbeOutcome(id="", status="finished", last_step=9)) == ""


def test_the_size_that_edge_allows_is_not_asked_again_at_the_end():
    """It depends on the embeddings, which are not on record; and no adapter grows."""
    made = result(request={"require": ("edge",)})
    assert unmet(made, ProbeOutcome(id="", status="finished", last_step=9, adapter_bytes=10**12)) == ""


def test_a_limit_and_what_is_over_it_are_never_told_alike():
    assert (
        objection("max-adapter-size=50MB", adapter_bytes=50_000_001) == "its adapter has 50,000,001 bytes, over 50.0 MB"
    )


@pytest.mark.parametrize("word", ["multi-adapter", "convertible", "edge", "vllm"])
def test_what_was_seen_on_text_models_alone_is_no_word_for_image_generators(word):
    with pytest.raises(BadInput, match=f"{word} cannot be checked: .*(models|vLLM serves no image generators)"):
        parse_checkable([word], replace(SCOPE, task="text-to-image"))


def test_what_failed_keeps_its_own_reason():
    broken = candidate("lora", None, status="diverged", reason="training loss is nan at step 3")
    assert without_violators([broken], ["max-forgetting=0.1", "max-latency-overhead=5%"], SCOPE) == [broken]


@pytest.mark.parametrize("value", ["much", "-0.1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused_with_what_was_seen(value):
    with pytest.raises(BadInput, match=rf"max-forgetting={value}.*nats per token.*max-forgetting=0.1"):
        parse_requirements([f"max-forgetting={value}"], SCOPE)
    with pytest.raises(BadInput, match=rf"max-latency-overhead={value}.*percentage.*max-latency-overhead=5%"):
        parse_requirements([f"max-latency-overhead={value}"], SCOPE)


def test_a_share_is_read_as_percentage_or_as_number():
    limits = [r.limit for r in parse_requirements(["max-latency-overhead=5%", "convertible=0.1"], SCOPE)]
    assert limits == pytest.approx([0.05, 0.1])
    assert parse_requirements(["max-latency-overhead=150%"], SCOPE)[0].limit == pytest.approx(1.5)
    for unclear in ("1", "5"):  # per cent, or times as long?
        with pytest.raises(BadInput, match="as a percentage"):
            parse_requirements([f"max-latency-overhead={unclear}"], SCOPE)


def test_a_requirement_is_known_in_capitals_too():
    [served] = parse_requirements(["vLLM"], SCOPE)
    assert served.name == "vllm"
    assert asks_for_latency([" Max-Latency-Overhead=5%"]) and not asks_for_latency(["vLLM", "max-forgetting=0.1"])


def test_an_unknown_requirement_is_told_what_there_is():
    with pytest.raises(BadInput, match=r"Did you mean 'max-forgetting=0.1'"):
        parse_requirements(["max-forgeting"], SCOPE)
    with pytest.raises(BadInput, match=r"Write max-adapter-size=50MB"):
        parse_requirements(["max-adapter-size"], SCOPE)
    with pytest.raises(BadInput, match=r"max-adapter-size=50XB: '50XB' is no memory size"):
        parse_requirements(["max-adapter-size=50XB"], SCOPE)
    with pytest.raises(BadInput, match=r"Write mergeable\."):
        parse_requirements(["mergeable=yes"], SCOPE)
    assert parse_requirements(["mergeable", "max-adapter-size=50MB"], SCOPE)[1].limit == 50_000_000


def test_what_nothing_can_show_is_refused_before_anything_is_trained():
    asked = ["mergeable", "max-forgetting=0.1"]
    assert len(parse_checkable(asked, SCOPE)) == 2
    with pytest.raises(BadInput, match=r"max-forgetting=0.1 cannot be checked: .* only by probing"):
        parse_checkable(asked, Scope(probe=False))
    with pytest.raises(BadInput, match="a classifier writes none"):
        parse_checkable(asked, Scope(task="sequence-classification"))


def test_help_names_every_word():
    from typer.testing import CliRunner

    from advisor.cli import build

    shown = "".join(CliRunner().invoke(build(), ["recommend", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert all(name in shown for name in KINDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_keeps_lora_and_some_words_keep_lora_only_where_it_was_seen(word):
    assert against("lora", word) is None


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("lily", "mergeable", "cannot be merged"),
        ("lily", "vllm", "cannot be served"),
        ("pissa", "quantized", "4 or 8 bits"),
        ("pissa", "edge", "4 bits"),
        ("loha", "edge", "4 bits"),
        ("full", "multi-adapter", "second adapter"),
        ("oft", "convertible", "cannot be converted"),
        ("lokr", "convertible", "an error of 8 %, over 5 %"),
        ("c3a", "convertible=10%", "over 10 %"),
    ],
)
def test_what_a_method_cannot_is_told(name, word, reason):
    assert reason in against(name, word)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *(("oft", "mergeable"), ("dora", "vllm"), ("loha", "quantized"), ("lily", "multi-adapter"), ("vera", "edge")),
        *(("delora", "convertible"), ("pissa", "convertible"), ("lokr", "convertible=10%")),
    ],
)
def test_what_a_method_can_takes_it_not_out(name, word):
    assert against(name, word) is None


def test_every_word_takes_some_method_out_or_judges_by_measuring():
    taken_out = {w: [m for m in all_methods() if against(m, w)] for w in WORDS if "max-" not in w}
    assert all(0 < len(names) < len(all_methods()) for names in taken_out.values())


def test_edge_wants_an_adapter_that_adds_at_most_a_tenth_to_the_base_in_4_bits():
    small, large = candidate("vera", adapter_bytes=4_900_000), candidate("lora", adapter_bytes=5_100_000)
    found = reasons([small, large], "edge")
    assert found == {"lora": "its adapter has 5.1 MB, over 10 % of the 50.0 MB of the base in 4 bits"}
    assert objection("edge", adapter_bytes=5_100_000) == found["lora"]


@pytest.mark.parametrize(("name", "gigabytes"), [("meta-llama/Llama-3.2-3B", 2.24), ("Qwen/Qwen3-4B", 2.65)])
def test_a_base_in_4_bits_keeps_its_embeddings(name, gigabytes):
    """As built on the meta device with bitsandbytes' layers."""
    parameters = {"meta-llama/Llama-3.2-3B": 3_212_749_824, "Qwen/Qwen3-4B": 4_022_468_096}[name]
    config = AutoConfig.for_model(**known_config(name))
    assert bytes_in_4_bits(config, parameters) == pytest.approx(gigabytes * 1e9, rel=0.01)


def test_the_overhead_of_what_merges_is_nothing_unless_the_base_is_quantised():
    limit = "max-latency-overhead=5%"
    without_probes = Scope(probe=False)
    assert against("lora", limit, without_probes) is None
    assert "only by probing" in against("lily", limit, without_probes)
    assert "only by probing" in against("lora", limit, Scope(probe=False, quantization="nf4"))
    assert against("lily", limit, Scope(probe=True)) is None  # its probe will tell


def test_the_overhead_is_held_against_what_was_measured():
    reports = [
        candidate("lora", latency_overhead=0.0),
        candidate("lily", latency_overhead=0.36),
        candidate("beft", latency_overhead=0.012),
        candidate("prefix-tuning"),
    ]
    assert reasons(reports, "max-latency-overhead=5%") == {
        "lily": "a request takes 36 % longer than without it, over 5 %",
        "prefix-tuning": "its time per request was not measured",
    }


def test_what_merges_for_free_needs_no_measuring_in_a_race_that_is_resumed_with_the_limit():
    reports = [candidate("lora"), candidate("lily")]
    assert set(reasons(reports, "max-latency-overhead=5%")) == {"lily"}
    assert set(reasons(reports, "max-latency-overhead=5%", scope=Scope(quantization="nf4"))) == {"lora", "lily"}


@pytest.mark.parametrize("status", ["diverged", "failed", "out of memory", "ineffective"])
def test_what_ended_by_itself_is_not_brought_back_by_dropping_a_requirement(status):
    report = candidate("oft", status=status, reason="training loss is nan at step 9", adapter_bytes=60_000_000)
    (checked,) = without_violators([report], ["max-adapter-size=50MB"], SCOPE)
    assert checked == report


def test_all_violated_requirements_are_told_and_kept():
    report = candidate("oft", forgetting=0.3, adapter_bytes=60_000_000)
    (checked,) = without_violators([report], ["max-adapter-size=50MB", "max-forgetting=0.1"], SCOPE)
    assert checked.violates == ("max-adapter-size=50MB", "max-forgetting=0.1")
    assert checked.reason == "its adapter has 60.0 MB, over 50.0 MB; forgets 0.300 nats per token, over 0.1"


def excluded(name, *violates, **fields):
    return candidate(name, status="excluded", title=name.upper(), violates=violates, **fields)


def test_the_effect_of_each_requirement_is_counted_by_method():
    reports = [
        candidate("lora"),
        excluded("lora", "small", learning_rate=1e-3),  # another rate of a method that stayed
        excluded("lily", "mergeable"),
        excluded("lily", "mergeable", learning_rate=1e-3),
        excluded("beft", "mergeable", "small"),
    ]
    mergeable, small, other = effects(["mergeable", "small", "other"], reports)
    assert (mergeable.methods, mergeable.rates, mergeable.alone) == (("LILY", "BEFT"), 0, 1)
    assert (small.methods, small.rates, small.alone) == (("BEFT",), 1, 0)
    assert (other.methods, other.rates, other.alone) == ((), 0, 0)


def test_the_requirement_to_drop_is_the_one_that_brings_most_back():
    reports = [excluded("a", "x"), excluded("b", "y"), excluded("c", "y"), excluded("d", "x", "y"), excluded("e", "z")]
    assert what_to_drop(reports) == (("y",), ("B", "C"))
    assert advice_on_dropping(reports) == "Without --require y 2 methods come back: B, C."


def test_where_one_is_not_enough_the_smallest_set_is_named():
    reports = [excluded("a", "x", "y"), excluded("b", "x", "z"), excluded("c", "x", "z"), excluded("d", "x", "y", "z")]
    assert what_to_drop(reports) == (("x", "z"), ("B", "C"))
    assert advice_on_dropping(reports).startswith("Without --require x and --require z 2 methods come back")


def test_without_violations_there_is_nothing_to_drop():
    assert what_to_drop([candidate("lora")]) is None
    assert advice_on_dropping([candidate("lora")]) == ""
