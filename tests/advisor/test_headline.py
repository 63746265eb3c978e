"""What stands above a report: whether each line holds for the run, the device and the evidence that it is of."""

from __future__ import annotations

import pytest

from advisor.deciding.quality import TABLE_RANK
from advisor.exporters.script import training_script
from advisor.recommendation import Prediction
from advisor.report import headline
from advisor.report.html import page
from knowledge.intervals import DRY_RUN_ERROR
from tests.advisor.factories import candidate, memory, result


def test_little_is_not_told_as_nothing_and_one_is_not_told_as_several():
    made = result([candidate("lora", 0.5, 0.1, forgetting=-0.001, forgetting_share=0.003)])
    run = made.planned_run.model_copy(update={"max_steps": 1, "batch_size": 1})
    told = dict(headline.lines(made.model_copy(update={"planned_run": run})))
    assert told["forgetting"] == "+0.00 nats per token on the base's own texts, under 1 % into the run"
    assert "1 step of 1 row on" in told["time"]
    assert "under 1 % of 24.0 GB" in told["memory"]


def test_on_a_processor_the_memory_told_is_that_of_a_gpu_beside_what_was_held():
    made = result([candidate("lora", 0.5, 0.126, probe_peak_bytes=602_000_000)])
    here = made.model_copy(update={"device": made.device.model_copy(update={"kind": "cpu"})})
    told = headline.memory_line(here, here.pick)
    noise = f"{100 * DRY_RUN_ERROR:.1f} %"
    assert told == f"126 MB at the peak (± {noise}), as on an NVIDIA GPU; here the probes' process held 602 MB"
    assert f"<p>± {noise}, as on an NVIDIA GPU" in page(here)
    assert "as on an NVIDIA" not in headline.memory_line(made, made.pick)


def test_the_time_of_a_planned_card_is_not_told_by_the_machine_that_is_here():
    made = result([candidate("lora", 0.5)])
    planned = made.model_copy(update={"device": made.device.model_copy(update={"planned": True})})
    elsewhere = "on the machine of the probes; the planned card takes another time"
    assert elsewhere in dict(headline.lines(planned))["time"] and elsewhere in page(planned)
    assert "it takes about 20 min where the probes ran." in training_script(planned).replace("\n", " ")
    assert dict(headline.lines(made))["time"] == "about 20 min for 600 steps of 8 rows on this device"
    assert "it takes about 20 min." in training_script(made).replace("\n", " ")


def test_the_time_is_told_with_its_interval_unless_that_says_nothing_more():
    for range_s, words in (((1140.0, 1330.0), " (80 % interval 19 min to 22 min)"), ((1199.0, 1201.0), "")):
        made = result([candidate("lora", 0.5, planned_run_range_s=range_s)])
        assert dict(headline.lines(made))["time"].startswith(f"about 20 min{words} for 600 steps")
        assert (words.strip(" ()") in page(made)) and ("80 % interval 20 min" not in page(made))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"quantize": "nf4"}, "kept in 4 bits (nf4)"),
        ({"quantize": "auto"}, "kept in 4 bits (nf4), for LoRA does not fit otherwise"),
        # In parts of that batch it may well fit in full, but nobody asked for these.
        (
            {"quantize": "auto", "batch_size": 8},
            "kept in 4 bits (nf4), for LoRA does not fit otherwise with --batch-size 8",
        ),
    ],
)
def test_why_a_base_is_kept_in_4_bits(request_, words):
    made = result([candidate("lora", 0.5)])
    run = made.planned_run.model_copy(update={"quantization": "nf4"})
    told = headline.lines(made.model_copy(update={"planned_run": run, "request": request_}))
    assert dict(told)["base"] == words


@pytest.mark.parametrize(
    ("basis", "note", "words"),
    [
        ("dry run", "", "dry run; at most 10.2 GB"),
        ("published", "on NVIDIA L40S, batch size 2", "published on NVIDIA L40S, batch size 2"),
        ("measured", "this is what the probe held", "measured: this is what the probe held"),
    ],
)
def test_what_a_run_held_is_not_told_as_the_most_that_one_may_need(basis, note, words):
    known = memory(10.0).model_copy(update={"basis": basis, "note": note})
    made = result([candidate("lora", 0.5, memory=known)])
    assert f"({words})" in page(made)
    assert basis == "dry run" or headline.memory_line(made, made.pick).endswith(f", {words}")


@pytest.mark.parametrize(("config", "label", "other"), [(None, "weights", "adapter"), ({"r": 8}, "adapter", "weights")])
def test_what_adds_no_adapter_is_told_by_its_weights(config, label, other):
    told = dict(headline.lines(result([candidate("bitfit", 0.5, peft_config=config)])))
    assert told[label].startswith("4.6 M trained parameters") and other not in told


@pytest.mark.parametrize(
    ("steps", "how", "words"), [(600, "measured", ", to which it was raced"), (60, "predicted", "")]
)
def test_what_the_race_came_to_is_not_told_as_predicted(steps, how, words):
    made = result([candidate("lora", 0.5, steps=steps)])
    assert made.planned_run.max_steps == 600
    assert dict(headline.lines(made))["eval loss"].startswith(f"1.200 at the end{words} (80 % interval")
    assert f"<dt>{how} eval loss</dt>" in page(made)


def test_a_rank_in_the_table_is_told_as_what_it_is_and_not_as_the_end_of_the_run():
    rank = Prediction(metric=TABLE_RANK, value=0.789, low=0.326, high=1.0)
    made = result([candidate("lora", predicted=rank, predicted_loss=None, status="from table")], race=None)
    words = "0.789 (80 % interval 0.326 to 1.000): the share of the table's methods that it beats"
    assert dict(headline.lines(made))[TABLE_RANK] == words
    assert "the share of the table&#x27;s methods" in page(made)
    assert "No prediction was made for it." in training_script(made)
