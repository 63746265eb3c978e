"""What workers without a model are started with. Apart from the stub itself, which must import next to nothing."""

from pathlib import Path

from probes.schema import ProbeContext


def stub_context(folder: Path) -> ProbeContext:
    """A race in `folder` of which only the folders matter."""
    (folder / "data").mkdir(exist_ok=True)
    return ProbeContext(
        model_reference="none",
        task="causal-lm",
        data_folder=str(folder / "data"),
        work_folder=str(folder),
        batch_size=1,
        eval_rows=1,
        metric_name="accuracy",
    )
