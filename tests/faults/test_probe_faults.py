"""What befalls single probes, in real workers on a real model: it is a result, and the race recommends all the same."""

import json
import time

import pytest

from probes.data.dataset import prepare
from probes.executors.process import ProcessExecutor
from probes.racing.conduct import Conductor, Contestant
from probes.racing.journal import Journal
from probes.racing.observer import Observer
from probes.racing.plan import Entry, RacePlan
from probes.racing.race import Race
from probes.schema import ProbeContext
from probes.source import load_tokenizer, resolve_model
from tests.faults.conftest import found
from tests.probes.test_session import job_of

TASK = "causal-lm"
BATCH = 512
ENOUGH_FOR_HALF, TOO_LITTLE = 175, 60  # MB; a whole batch takes between 200 and 250, half of one between 100 and 140

# The beginnings of the ids of the candidates that something befalls; not at the lowest rates, which a small budget
# does without.
FAULTS = {
    "ln-tuning@0.003-": "killed, once",
    "lora@0.001-": "trains nothing",
    "lora@0.003-": "explodes",
    "ia3@0.005-": "killed",
    "ia3@0.02-": "hangs",
}


@pytest.fixture(scope="module")
def undisturbed(zygote_path, model, data, tmp_path_factory):
    from tests.faults.conftest import Bench

    bench = Bench(zygote_path, model, data, tmp_path_factory.mktemp("undisturbed"))
    assert bench.run().code == 0
    return bench


@pytest.mark.fault("workers killed, hung, exploding and training nothing, in one race")
def test_a_race_survives_all_that_can_befall_its_probes(bench, undisturbed, record_property):
    record_property("injected", len(FAULTS))
    advisor = bench.run(faults=FAULTS, silence_s=4)
    assert advisor.code == 0, advisor.said
    candidates = {f"{c['name']}@{c['learning_rate']:g}-": c for c in bench.result()["candidates"] if c["probe_s"]}
    ended = {prefix: (candidates[prefix]["status"], candidates[prefix]["reason"]) for prefix in FAULTS}
    assert ended["ln-tuning@0.003-"][0] in ("finished", "eliminated")
    assert ended["lora@0.001-"] == ("ineffective", "no gradient reaches the trainable parameters")
    assert ended["lora@0.003-"][0] == "diverged"
    assert ended["ia3@0.005-"] == ("failed", "killed (SIGKILL): probably out of host memory")
    assert ended["ia3@0.02-"] == ("failed", "said nothing for 4 s: taken for hung, ended")
    assert bench.result()["recommendation"]["name"]
    assert bench.workers_running() == []
    # What nothing befell is as it is in the undisturbed race.
    unharmed = candidates["ln-tuning@0.01-"]["curve"]["points"][0]
    assert unharmed["eval_loss"] == first_loss(undisturbed.result(), "ln-tuning", 0.01)


def first_loss(result, name, learning_rate):
    wanted = (name, learning_rate)
    curve = next(c["curve"] for c in result["candidates"] if (c["name"], c["learning_rate"]) == wanted)
    return curve["points"][0]["eval_loss"]


@pytest.mark.fault("parent and workers killed in the middle of real probes, then resumed")
def test_real_probes_go_on_after_a_kill_as_if_undisturbed(bench, undisturbed):
    bench.out.mkdir()
    records = (undisturbed.out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (bench.out / "journal.jsonl").write_bytes(b"".join(records[:2]))  # killed after it had planned
    advisor = bench.start("--resume")
    advisor.wait_until(lambda: len(bench.journal()) >= len(records) // 2)
    advisor.kill()
    advisor.wait()
    assert bench.workers_running() == []
    assert bench.run("--resume").code == 0
    assert found(bench.result()) == found(undisturbed.result())


@pytest.mark.fault("out of memory in a probe: on a CPU a limit on the address space")
def test_out_of_memory_is_a_result_after_one_try_in_smaller_batches(bench, tmp_path, monkeypatch):
    """`large` needs more than there is for a whole batch, `huge` for half of one as well."""
    monkeypatch.setenv(
        "ADVISOR_TEST_FAULTS", json.dumps({"large": f"{ENOUGH_FOR_HALF} MB", "huge": f"{TOO_LITTLE} MB"})
    )
    with (
        Journal(tmp_path / "journal.jsonl", "race", resume=False) as journal,
        ProcessExecutor(1, command=bench.real_worker) as executor,
    ):
        executor.start(context_of_long_rows(bench.model, tmp_path))
        evidence = conductor_of(("huge", "large"), executor, journal).run()
    tries = {id: [(o.status, o.micro_batches) for o in outcomes] for id, outcomes in evidence.outcomes.items()}
    assert tries == {
        "large": [("out of memory", 1), ("finished", 2)],
        "huge": [("out of memory", 1), ("out of memory", 2)],
    }
    assert "alloc" in evidence.failed["huge"].reason
    assert evidence.outcomes["huge"][0].peak_bytes
    assert list(evidence.failed) == ["huge"]
    assert evidence.curves["large"].points


def context_of_long_rows(model, folder):
    rows = [{"prompt": f"{i:040d}+{i:018d}=", "completion": str(2 * i)} for i in range(3 * BATCH)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = prepare(folder / "rows.jsonl", load_tokenizer(resolve_model(str(model))), task=TASK, max_length_tokens=64)
    data.save(folder / "data")
    return ProbeContext(
        model_reference=str(model),
        task=TASK,
        data_folder=str(folder / "data"),
        work_folder=str(folder),
        batch_size=BATCH,
        eval_rows=8,
        metric_name=data.profile.metric_name,
        measures_forgetting=False,
    )


def conductor_of(ids, executor, journal):
    """Of a race of one rung and two steps."""
    entries = tuple(Entry(id, id, "", 1e-3, None, 0.5) for id in ids)
    job = job_of("lora", "any")
    return Conductor(
        Race(RacePlan(entries, fractions=(2 / job.schedule.total_steps,), keep=())),
        [Contestant(id, id, "lora", 1e-3, job.peft_config) for id in ids],
        job.schedule,
        executor,
        journal,
        Observer(),
        time.monotonic() + 60,
        "exact match",
        batch_size=BATCH,
    )


@pytest.mark.fault("loss of exactly zero")
def test_a_loss_of_exactly_zero_counts_as_diverged(tmp_path):
    """Logits so far apart that the right token has a probability of one: as overflowing runs report themselves."""
    import torch

    from probes.data.rows import TokenRows
    from probes.training import Diverged
    from tests.probes.runs import Run

    run = Run("gpt2", "lora", tmp_path)
    token = 7
    run.rows = TokenRows.build([([token] * 16, [False] * 8 + [True] * 8)] * 32)
    with torch.no_grad():
        body = run.model.base_model.model.transformer
        body.ln_f.weight.zero_()
        body.ln_f.bias.fill_(1.0)
        run.model.base_model.model.lm_head.weight[token] = 100.0
    with pytest.raises(Diverged, match=r"training loss is 0\.0 at step 1"):
        run.to(1)
