"""The inside of a worker: one loaded base serves probe after probe, and failures are outcomes."""

import pytest

from knowledge.methods import get_method
from probes.data.dataset import PreparedData, prepare
from probes.schema import ProbeContext, ProbeJob, Schedule
from probes.session import Session
from probes.shape import model_shape
from probes.source import load_tokenizer, resolve_model
from tests.advisor.tiny_run import save_tiny, write_rows
from tests.tiny import tiny_model, tiny_task


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return make_context(tmp_path_factory.mktemp("session"), "llama")


def make_context(folder, architecture):
    task = tiny_task(architecture)
    model = save_tiny(folder / "model", architecture)
    rows = write_rows(folder / "rows.jsonl", task)
    tokenizer = load_tokenizer(resolve_model(str(model)))
    data = prepare(rows, tokenizer, task=task, max_length_tokens=64)
    data.save(folder / "data")
    return ProbeContext(
        model_reference=str(model),
        task=task,
        data_folder=str(folder / "data"),
        work_folder=str(folder / "work"),
        batch_size=8,
        eval_rows=8,
        metric_name=data.profile.metric_name,
    )


def job_of(name, id, stop=4, **settings):
    method = get_method(name)
    config = method.peft_config(model_shape(tiny_model("llama"), "causal-lm"), 8)
    schedule = Schedule(shape="cosine", total_steps=8, warmup_steps=1)
    given = {"learning_rate": method.default_learning_rate, "peft_config": config, "schedule": schedule}
    return ProbeJob(id=id, method=name, stop_step=stop, eval_steps=(stop,), **given | settings)


def run(session, job):
    steps, points = [], []
    outcome = session.run(job, lambda *step: steps.append(step), lambda *point: points.append(point))
    return outcome, steps, points


def test_one_base_serves_all_probes_and_each_is_as_on_a_fresh_one(context, monkeypatch):
    from probes import source

    loads = []
    monkeypatch.setattr(source, "load_model", lambda *a, real=source.load_model, **k: loads.append(1) or real(*a, **k))
    session = Session(context)
    baseline = session.baseline()
    first, steps, points = run(session, job_of("dora", "one"))
    run(session, job_of("ia3", "two"))
    again, _, _ = run(session, job_of("dora", "three"))
    assert len(loads) == 1
    assert first.status == again.status == "finished"
    assert [s[1] for s in steps] == [1, 2, 3, 4]
    assert points[0][0] == "one"
    assert first.points[0].eval_loss < baseline.eval_loss
    assert [p.model_copy(update={"elapsed_s": None}) for p in first.points] == [
        p.model_copy(update={"elapsed_s": None}) for p in again.points
    ]


def test_a_method_that_rewrites_the_base_gets_a_fresh_one_afterwards(context):
    session = Session(context)
    baseline = session.baseline()
    outcome, _, _ = run(session, job_of("full", "full"))
    assert outcome.status == "finished"
    assert session._base is None
    assert session.baseline().eval_loss == baseline.eval_loss


def test_what_was_measured_stays_where_the_method_cannot_be_taken_off(context, monkeypatch):
    """PEFT is asked to unload from models that nobody has tried: the next probe begins on a fresh base."""

    def cannot(model):
        raise AttributeError("'Wrapped' object has no attribute 'base_layer'")

    session = Session(context)
    baseline = session.baseline()
    with monkeypatch.context() as patched:
        patched.setattr("probes.session.adapters.remove_method", cannot)
        outcome, _, _ = run(session, job_of("lora", "stays on"))
    assert (outcome.status, outcome.last_step) == ("finished", 4), outcome.reason
    assert session.baseline().eval_loss == baseline.eval_loss


def test_a_probe_goes_on_where_it_stopped(context):
    session = Session(context)
    run(session, job_of("lora", "goes-on", stop=4))
    outcome, steps, _ = run(session, job_of("lora", "goes-on", stop=8))
    assert (outcome.first_step, outcome.last_step) == (4, 8)
    assert [s[1] for s in steps] == [5, 6, 7, 8]


def test_of_a_run_of_a_hundred_million_steps_a_probe_draws_its_own_batches(context, monkeypatch):
    """A billion rows, three times, would be gigabytes of row numbers, and minutes before each probe."""
    asked, draw = [], PreparedData.batch_order
    monkeypatch.setattr(
        PreparedData,
        "batch_order",
        lambda data, size, steps, seed: asked.append(steps) or draw(data, size, min(steps, 8), seed),
    )
    job = job_of("lora", "long", stop=2, schedule=Schedule(shape="cosine", total_steps=10**8))
    outcome, steps, _ = run(Session(context), job)
    assert (outcome.status, len(steps), asked) == ("finished", 2, [2])


def test_what_a_method_raises_is_an_outcome_and_the_session_goes_on(context):
    session = Session(context)
    outcome, _, _ = run(
        session, job_of("lora", "broken", peft_config={"peft_type": "LORA", "target_modules": ["nope"]})
    )
    assert outcome.status == "failed"
    assert "nope" in outcome.reason
    diverged, _, _ = run(session, job_of("full", "explodes", stop=8, learning_rate=1e18))
    assert diverged.status == "diverged"
    assert run(session, job_of("lora", "after"))[0].status == "finished"


def test_what_was_saved_is_reloaded_with_the_largest_seed_too(context, tmp_path):
    """NumPy takes no larger one than 2^32 - 1: a run that ends must not fail by what checks it."""
    session = Session(context.model_copy(update={"seed": 2**32 - 1, "work_folder": str(tmp_path)}))
    outcome, _, _ = run(session, job_of("lora", "saved", stop=1, save_to=str(tmp_path / "adapter")))
    assert outcome.status == "finished", outcome.reason
    assert outcome.reload_difference == pytest.approx(0, abs=1e-6)


def test_a_further_try_in_smaller_parts_begins_from_smaller_batches_too(context, monkeypatch):
    session, lengths = Session(context), []
    for parts in (1, 2):
        seen = []
        monkeypatch.setattr(
            "probes.session.adapters.apply_method",
            lambda *args, batches, seen=seen: seen.append(batches()) or session.unknown,
        )
        run(session, job_of("lora", f"in {parts}", micro_batches=parts))
        lengths.append([row for batch in seen[0] for row in batch["attention_mask"].sum(-1).tolist()])
        assert {len(batch["input_ids"]) for batch in seen[0]} == {context.batch_size // parts}
    assert lengths[0] == lengths[1], "the same rows"


def test_the_loss_of_each_held_out_row_is_kept(context):
    """In nats over its label tokens, so that two candidates can be compared row by row."""
    session = Session(context)
    baseline = session.baseline()
    outcome, _, points = run(session, job_of("lora", "rows"))
    assert len(outcome.row_losses) == len(outcome.row_right) == len(baseline.row_labels) == context.eval_rows
    mean = sum(outcome.row_losses) / sum(baseline.row_labels)
    assert mean == pytest.approx(points[-1][1].eval_loss, abs=1e-4)
    assert outcome.all_rows is None


def test_what_comes_to_the_end_of_the_planned_run_is_evaluated_on_all_held_out_rows(context):
    """And so is the untuned model, to be compared with it; the curve stays on the same rows throughout."""
    session = Session(context)
    baseline = session.baseline()
    outcome, _, ((_, last),) = run(session, job_of("lora", "to the end", stop=8))
    all_rows = outcome.all_rows
    labels = all_rows.row_labels
    assert len(outcome.row_losses) == len(outcome.row_right) == len(labels) == len(session.data.eval)
    assert labels[: context.eval_rows] == baseline.row_labels != labels
    assert all_rows.end.step == last.step == 8 and all_rows.untuned.step == 0
    assert all_rows.end.eval_loss < all_rows.untuned.eval_loss
    assert sum(outcome.row_losses) / sum(labels) == pytest.approx(all_rows.end.eval_loss, abs=1e-4)
    assert sum(outcome.row_right) / sum(labels) == pytest.approx(all_rows.end.token_accuracy)
    of_first = sum(outcome.row_losses[: context.eval_rows]) / sum(baseline.row_labels)
    assert of_first == pytest.approx(last.eval_loss, abs=1e-4)
    of_all = Session(context.model_copy(update={"eval_rows": len(labels)})).baseline()
    assert all_rows.untuned.eval_loss == pytest.approx(of_all.eval_loss, abs=1e-6)


def test_a_run_that_is_over_already_is_evaluated_on_all_rows_and_the_untuned_model_once(context):
    session = Session(context)
    outcome, _, _ = run(session, job_of("lora", "over", stop=8))
    session._untuned = session._untuned.model_copy(update={"loss": 7.0})
    again, _, points = run(session, job_of("lora", "over", stop=8).model_copy(update={"eval_steps": ()}))
    assert points == [] and again.first_step == 8
    assert again.all_rows.end.eval_loss == pytest.approx(outcome.all_rows.end.eval_loss, abs=1e-5)
    assert again.all_rows.untuned.eval_loss == 7.0


def test_a_metric_of_the_users_own_sees_all_held_out_rows_at_the_end(context, tmp_path):
    (tmp_path / "own.py").write_text("def rows(predicted, right):\n    return len(right)\n")
    own = {"own_metric": f"{tmp_path / 'own.py'}:rows", "metric_name": "rows"}
    session = Session(context.model_copy(update=own))
    outcome, _, ((_, last),) = run(session, job_of("lora", "own", stop=8))
    assert last.metric == context.eval_rows
    assert outcome.all_rows.end.metric == outcome.all_rows.untuned.metric == len(session.data.eval)


def test_all_rows_are_evaluated_once_where_every_evaluation_is_of_all(context):
    session = Session(context.model_copy(update={"eval_rows": 10_000}))
    outcome, _, _ = run(session, job_of("lora", "of all", stop=8))
    assert outcome.all_rows is None
    assert len(outcome.row_losses) == len(session.data.eval)


def test_what_a_probe_forgets_is_measured_at_its_end(context):
    """More at a higher rate, and the same in another session of the race, which reads the texts of the first."""
    session = Session(context)
    assert session.baseline().texts_s > 0
    gentle, _, _ = run(session, job_of("lora", "gentle", learning_rate=1e-4))
    harsh, _, _ = run(session, job_of("lora", "harsh", learning_rate=1e-1))
    assert harsh.forgetting > gentle.forgetting + 0.5
    assert harsh.forgetting_noise > 0
    assert harsh.forgetting_note == ""
    again, _, _ = run(Session(context), job_of("lora", "harsh-again", learning_rate=1e-1))
    assert again.forgetting == harsh.forgetting


def test_a_request_that_cannot_be_timed_costs_no_probe(context, monkeypatch):
    def fails(*_):
        raise RuntimeError("this adapter cannot be turned off")

    monkeypatch.setattr("probes.session.latency_overhead", fails)
    outcome, _, _ = run(Session(context), job_of("lora", "untimed"))
    assert (outcome.status, outcome.latency_overhead) == ("finished", None) and outcome.points


def test_what_it_cost_is_measured(context):
    outcome, _, _ = run(Session(context), job_of("lora", "costs"))
    assert outcome.duration_s >= outcome.train_s > 0
    assert outcome.trained_tokens > 0
    assert outcome.trainable_parameters > 0
    assert outcome.adapter_bytes >= 4 * outcome.trainable_parameters
    assert outcome.peak_bytes is None or outcome.peak_bytes > 50e6


def test_all_workers_draw_the_same_classification_head(tmp_path):
    """A sentence encoder brings no head: transformers draws one, and candidates must start from the same."""
    import torch
    from transformers import AutoModel

    context = make_context(tmp_path, "bert")
    AutoModel.from_pretrained(context.model_reference).save_pretrained(context.model_reference)
    first = Session(context).baseline()
    torch.rand(7)  # another state of the generator, as in another process
    assert Session(context).baseline().eval_loss == first.eval_loss
    outcome, _, _ = run(Session(context), job_of("bitfit", "labels", peft_config=None))
    assert outcome.forgetting is None
    assert "classifier" in outcome.forgetting_note


def test_a_macro_f1_is_measured_of_the_predicted_classes(tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr("probes.session.macro_f1", lambda *rows: judged.append(rows) or 0.25)
    session = Session(make_context(tmp_path, "bert").model_copy(update={"metric_name": "macro F1"}))
    assert session.baseline().metric == 0.25
    [(predicted, right)] = judged
    assert [label for (label,) in right] == session.held_out.class_labels.tolist()
    assert len(predicted) == len(right) and {label for (label,) in predicted} <= {0, 1}


@pytest.mark.parametrize(("architecture", "name"), [("llama", "pissa"), ("llama", "lora"), ("bert", "lora")])
def test_what_is_saved_reloads_to_the_same_loss_on_a_fresh_base(architecture, name, tmp_path):
    """PiSSA rewrites the base, and a sentence encoder's head is drawn anew each time: the files hold all of it."""
    from transformers import AutoModel

    context = make_context(tmp_path, architecture)
    if architecture == "bert":
        AutoModel.from_pretrained(context.model_reference).save_pretrained(context.model_reference)
    method = get_method(name)
    config = method.peft_config(model_shape(tiny_model(architecture), context.task), 8)
    job = job_of(name, "final", stop=8, save_to=str(tmp_path / "adapter"), peft_config=config)
    outcome, _, _ = run(Session(context), job)
    assert outcome.status == "finished", outcome.reason
    assert outcome.reload_difference < 1e-5
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_a_run_worth_saving_is_checkpointed_on_its_way(context, monkeypatch):
    from probes import checkpoint

    saved = []
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "LARGEST_SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 0)
    monkeypatch.setattr(checkpoint, "save", lambda f, m, o, progress: saved.append(progress.step))
    session = Session(context)
    run(session, job_of("lora", "probe"))
    assert saved == []  # too large for a probe, and short
    run(session, job_of("lora", "final", save_to=context.work_folder + "/adapter"))
    assert saved == [1, 2, 3, 4, 4]  # step 4 with its point of the curve, and at the end


def test_a_batch_in_two_parts_trains_what_it_trains_as_a_whole(context):
    """With half the rows at a time and as many in each optimizer step: where memory ran out at all of them."""
    session = Session(context)
    whole, _, _ = run(session, job_of("lora", "whole"))
    parts, steps, _ = run(session, job_of("lora", "parts", micro_batches=2))
    assert (whole.micro_batches, parts.micro_batches) == (1, 2)
    assert [s[1] for s in steps] == [1, 2, 3, 4]
    assert parts.points[-1].eval_loss == pytest.approx(whole.points[-1].eval_loss, rel=0.01)


def test_a_checkpoint_from_beyond_what_is_on_record_is_not_used(context):
    """Its points and the losses of its rows died with the worker: the probe starts over and measures them again."""
    session = Session(context)
    undisturbed, _, _ = run(session, job_of("lora", "recorded", start_step=0))
    again, steps, _ = run(session, job_of("lora", "recorded", start_step=0))
    assert (again.first_step, len(steps)) == (0, 4)
    assert again.row_losses == undisturbed.row_losses
    assert again.points[0].train_loss == undisturbed.points[0].train_loss


def test_a_probe_that_starts_over_tells_the_training_loss_since_its_last_point(context):
    session = Session(context)
    run(session, job_of("lora", "goes-on-2", stop=4))
    went_on, _, _ = run(session, job_of("lora", "goes-on-2", stop=8, start_step=4))
    over, _, _ = run(session, job_of("lora", "starts-over", stop=8, start_step=4))
    assert (went_on.first_step, over.first_step) == (4, 0)
    assert over.points[0].train_loss == pytest.approx(went_on.points[0].train_loss, rel=1e-6)


def test_of_what_goes_on_the_most_memory_is_told_that_any_part_of_it_held(context, monkeypatch):
    """Of a run that was resumed near its end the rest alone was, and of one that was through nothing."""
    session = Session(context)
    trained, _, _ = run(session, job_of("lora", "through"))
    monkeypatch.setattr(session.memory, "peak_bytes", lambda: 1)
    through, steps, _ = run(session, job_of("lora", "through", start_step=4))
    assert (through.status, through.first_step, steps) == ("finished", 4, [])
    on, steps, _ = run(session, job_of("lora", "through", stop=8, start_step=4))
    assert (on.first_step, len(steps)) == (4, 4)
    assert trained.peak_bytes and trained.peak_bytes == through.peak_bytes == on.peak_bytes
    assert trained.left_checkpoint and on.left_checkpoint
    anew, _, _ = run(session, job_of("lora", "through", start_step=0))
    assert anew.peak_bytes == 1


def test_a_full_disk_costs_a_probe_its_checkpoint_and_no_result(context, monkeypatch):
    from probes import checkpoint

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", refuse)
    outcome, _, _ = run(Session(context), job_of("lora", "no-room"))
    assert outcome.status == "finished"
    assert outcome.row_losses and outcome.left_checkpoint is False
