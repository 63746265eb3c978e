"""Results of the probe study (examples/study): one JSON object for each candidate, of which the full run is a record.

The study's short probes are no runs of the benchmark and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowledge.era import software_era
from knowledge.importers import NotARun, as_not_a_run
from knowledge.schema import Curve, CurvePoint, RunRecord

FORMAT = "probe study"
LAYOUT = 1
# Wall time over processor time. Two workers beside other work came to 3 at most, with shares that are those of their
# task within a tenth; beyond it the machine had been suspended, and half of the shares are off, one by fourteen times.
STOOD_STILL = 3.0


def recognises(content: Any) -> bool:
    return isinstance(content, Mapping) and content.get("study") == LAYOUT and "runs" in content


def read(content: Mapping[str, Any]) -> RunRecord:
    """The candidate's full run. Raises NotARun where it did not finish or a needed field is missing or invalid."""
    with as_not_a_run():
        return _read(content)


def experiment_of(content: Mapping[str, Any]) -> str:
    """What tells a candidate's run from others of its benchmark."""
    return f"{content['method']}/lr{content['learning_rate']:g}-seed{content['seed']}"


def _read(content: Mapping[str, Any]) -> RunRecord:
    full = next((run for run in content["runs"] if run["protocol"] == "full"), None)
    if full is None or full["status"] != "finished":
        raise NotARun(f"no finished full run: {full['status'] if full else 'none there'}")
    adapter = content.get("peft_config") or {}
    points = tuple(_point(point) for point in full["points"])
    return RunRecord(
        benchmark=f"{content['benchmark']}/{software_era(content['versions'])}",
        experiment=experiment_of(content),
        method=content["method"],
        task=content["kind"],
        model=content["model"],
        peft_type=adapter.get("peft_type"),
        peft_config={k: v for k, v in adapter.items() if k not in {"peft_type", "task_type"}},
        learning_rate=content["learning_rate"],
        optimizer=content["optimizer"].rpartition(":")[2],
        weight_decay=content["weight_decay"],
        scheduler=full["schedule"]["shape"],
        batch_size=content["batch_size"],
        max_steps=content["max_steps"],
        max_length_tokens=content["max_length_tokens"],
        label_mean_tokens=content.get("label_mean_tokens"),
        dtype="float32",
        seed=content["seed"],
        curve=Curve(points=points, metric_name=content["metric_name"]),
        metric_name=f"held-out {content['metric_name']}",
        metric=points[-1].metric,
        train_s=_train_s(full),
        peak_bytes=None,  # a process's resident memory is not comparable with what a GPU's allocator holds
        adapter_bytes=content.get("adapter_bytes"),
        trainable_parameters=content.get("trainable_parameters"),
        device=f"{content['device']}, {content['threads']} thread",
        versions=content["versions"],
        created_at=content["created_at"],
        source="probe-study",
        is_compared=content.get("is_compared", True),
    )


def _train_s(run: Mapping[str, Any]) -> float | None:
    """Processor time inside training steps, for wall time is worth nothing where other work shares the cores. The share
    is known of wall time alone, and says nothing where the machine stood still in between."""
    if run["duration_s"] > STOOD_STILL * run["cpu_s"]:
        return None
    return round(run["cpu_s"] * run["train_share"], 2)


def _point(point: Mapping[str, Any]) -> CurvePoint:
    """Without the wall time, for the reason above."""
    return CurvePoint(**{key: point.get(key) for key in ("step", "train_loss", "eval_loss", "metric")})
