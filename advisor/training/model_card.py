"""The model card of a trained adapter: the README.md beside its weights, with what was predicted and reached."""

from __future__ import annotations

import json
from collections.abc import Sequence

from advisor.exporters.base import model_location
from advisor.recommendation import Result
from advisor.report.content import model_name
from advisor.text import bytes_text, clean, count_text, duration_text, plural, quality_text, rate_text, rounded
from advisor.training.training_report import Comparison, TrainingReport
from knowledge.schema import AUTO_CLASSES

_PIPELINES = {"causal-lm": "text-generation", "sequence-classification": "text-classification"}

ABOUT_RANGES = "Ranges are intervals of 80 %."


def model_card(result: Result, report: TrainingReport) -> str:
    """Markdown with the front matter that the Hugging Face hub reads."""
    sections = [
        _front_matter(result),
        f"# {_unmarked(report.title)} on {_unmarked(model_name(result))}",
        f"Trained by peft-advisor {_unmarked(report.advisor_version)} for {plural(report.max_steps, 'step')} at "
        f"learning rate {rate_text(report.learning_rate)}. {_start(report)}",
        "## Predicted and reached",
        _comparisons(report),
        "## Method",
        _method(result, report),
        "## Data",
        _data(result),
        "## Use",
        _use(result),
        "## Made with",
        _versions(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def comparison_cells(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """(quantity, predicted, range, reached, verdict) as people read them; '-' where there is nothing."""
    text = {
        "quality": lambda value: quality_text(value, comparison.quantity),
        "bytes": bytes_text,
        "seconds": duration_text,
    }[comparison.kind]
    c = comparison
    range_text = "-" if c.low is None or c.high is None else f"{text(c.low)} to {text(c.high)}"
    verdict = {True: "inside", False: "outside", None: "-"}[c.inside]
    shown = ["-" if value is None else text(value) for value in (c.predicted, c.reached)]
    return clean(c.quantity), shown[0], range_text, shown[1], verdict


def _front_matter(result: Result) -> str:
    is_adapter = result.pick.peft_config is not None  # the hub shows how to load one with peft
    lines = ["---", *(["library_name: peft"] if is_adapter else [])]
    if result.model.source == "hub":  # a folder of somebody's machine means nothing to others
        lines.append(f"base_model: {json.dumps(clean(model_location(result)))}")
    if pipeline := _PIPELINES.get(result.planned_run.task):
        lines.append(f"pipeline_tag: {pipeline}")
    tags = [*(["peft"] if is_adapter else []), "peft-advisor", json.dumps(clean(result.pick.name))]
    lines += ["tags:", *(f"  - {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _start(report: TrainingReport) -> str:
    last, metric_name = report.last, report.curve.metric_name or "metric"
    words = [] if last.eval_loss is None else [f"loss {report.baseline_loss:.3f} to {last.eval_loss:.3f}"]
    if last.metric is not None and report.baseline_metric is not None:
        before, after = (quality_text(v, metric_name) for v in (report.baseline_metric, last.metric))
        words.append(f"{_unmarked(metric_name)} {before} to {after}")
    rows = plural(report.eval_rows, "held-out row") if report.eval_rows else "held-out rows"
    start = f"On {rows}, from the untuned model to this one: {', '.join(words)}."
    return start + (f" {on_all_rows(report)}" if report.end_on_all else "")


def on_all_rows(report: TrainingReport) -> str:
    """What the end is on all held-out rows, where the table is of the first of them, as the prediction was."""
    end = report.end_on_all
    words = [f"loss {end.eval_loss:.3f}"]
    if end.metric is not None:
        metric_name = report.curve.metric_name or "metric"
        words.append(f"{_unmarked(metric_name)} {quality_text(end.metric, metric_name)}")
    return f"On all {report.held_out_rows} held-out rows it ends at {', '.join(words)}."


def on_own_texts(report: TrainingReport) -> str:
    """How much was forgotten; '' where that was not measured."""
    if report.forgetting is None:
        return ""
    return (
        f"On texts that the base model wrote itself the loss has grown by {rounded(report.forgetting, 3):.3f} "
        f"± {report.forgetting_noise or 0:.3f} nats per token."
    )


def _comparisons(report: TrainingReport) -> str:
    rows = ["| | predicted | range | reached | |", "|---|---|---|---|---|"]
    rows += [f"| {' | '.join(map(_unmarked, comparison_cells(c)))} |" for c in report.comparisons]
    notes = [ABOUT_RANGES]
    notes += [f"{clean(c.quantity)}: {clean(c.note)}." for c in report.comparisons if c.note]
    notes += [f"Note: {report.overtrained}."] if report.overtrained else []
    notes += filter(None, [on_own_texts(report)])
    return "\n".join(rows) + "\n\n" + " ".join(notes)


def _method(result: Result, report: TrainingReport) -> str:
    run, pick = result.planned_run, result.pick
    rows = run.rows_per_step
    lines = [
        f"- {_unmarked(pick.title)} (`{_unmarked(pick.name)}`), {count_text(report.trainable_parameters)} trained "
        f"parameters, {bytes_text(report.adapter_bytes)}",
        f"- {plural(run.max_steps, 'step')} of {plural(rows, 'row')}, {run.scheduler} schedule, "
        f"{plural(run.warmup_steps, 'step')} of warm-up, at most {run.max_length_tokens} tokens a row, seed {run.seed}",
        f"- base in {report.dtype}" + ("" if run.quantization == "none" else f", quantized: {run.quantization}"),
    ]
    if pick.peft_config:
        lines += ["", "```json", json.dumps(dict(pick.peft_config), indent=2, default=str), "```"]
    return "\n".join(lines)


def _data(result: Result) -> str:
    """What the data is like, without its place: a path says more about a person than about a model."""
    data = result.data
    if data is None:
        return ""
    held_out = "in another file held out" if data.eval_path else "held out"
    return (
        f"{data.rows:,} rows in the format {_unmarked(data.format)}: {data.train_rows:,} for training, "
        f"{data.eval_rows:,} {held_out} without duplicates. Rows have {data.length_p50_tokens} tokens in the middle, "
        f"{data.length_p95_tokens} at the 95th percentile, {data.length_max_tokens} at most. "
        f"Metric: {_unmarked(data.metric_name)}."
    )


def _use(result: Result) -> str:
    if result.pick.peft_config is None:
        return "`trained.safetensors` holds the trained parameters. `advisor merge` writes the whole model."
    auto_class, classes = AUTO_CLASSES[result.planned_run.task], result.training.label_names
    model = json.dumps(clean(model_location(result))) if result.model.source == "hub" else "FOLDER_OF_THE_BASE_MODEL"
    options = f", id2label={_class_names(classes)}, ignore_mismatched_sizes=True" if classes else ""
    options += ", trust_remote_code=True" if result.trusts_model_code else ""
    return (
        "```python\nimport peft\nimport transformers\n\n"
        f"base = transformers.{auto_class}.from_pretrained({model}{options})\n"
        "model = peft.PeftModel.from_pretrained(base, FOLDER_OF_THIS_FILE)\n```"
    )


def _class_names(classes: Sequence[str]) -> str:
    """Python source of what the head's outputs mean; a fence in the name of a class does not end the block."""
    names = (json.dumps(clean(name, 200).replace("`", "'"), ensure_ascii=False) for name in classes)
    return f"{{{', '.join(f'{i}: {name}' for i, name in enumerate(names))}}}"


def _versions(report: TrainingReport) -> str:
    versions = ", ".join(f"{_unmarked(name)} {_unmarked(version)}" for name, version in sorted(report.versions.items()))
    return f"{versions}; {_unmarked(report.device)}; {report.created_at}."


def _unmarked(text: str) -> str:
    """Foreign text that is no markup."""
    return clean(text, 200).replace("<", "&lt;").replace("`", "'").replace("|", "/").replace("[", "(").replace("]", ")")
