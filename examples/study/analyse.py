"""Prints what the study says, as Markdown, and draws its plots.

    python -m examples.study.analyse [--out DIR] [--plots FOLDER]

Reads `results/`, and with `--out` the folder of a running study as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from examples.study.records import StudyResult, read_collected, read_running
from examples.study.scores import PROTOCOLS, Comparison, Probe, Score, best_at_the_edge, comparisons, score, seed_noise

LEAST_CANDIDATES = 6
HEADER = (
    "| probe | cost | cost in a race | Spearman (80 %) | best of its length | regret, nats | regret, metric "
    "| rate regret, nats | rate bias, log10 | pairs change by |"
)


def report(results: Sequence[StudyResult]) -> str:
    """The study in Markdown: a table over all tasks on which the protocols were compared, one for each task, and the
    noise."""
    tasks = [task for task in comparisons(results) if len(task) >= LEAST_CANDIDATES]
    noise = seed_noise(results)
    parts = []
    probed = [task for task in tasks if task.protocols == PROTOCOLS]
    if len(probed) > 1:
        parts += [f"### All tasks ({sum(map(len, probed))} candidates on {len(probed)} tasks)", _table(score(probed))]
    for task in tasks:
        parts += [f"### {task.task}", _summary(task, noise), _best_rates(task), _table(score([task]))]
    return "\n\n".join(parts)


def _summary(task: Comparison, noise: dict[str, tuple[float, float, int]]) -> str:
    edge, methods = best_at_the_edge(task)
    order = np.argsort(task.final_loss)
    best = order[0]
    words = (
        f"{len(task)} candidates of {len(set(task.methods))} methods. Best: {task.methods[best]} at "
        f"{task.rates[best]:g}, loss {task.final_loss[best]:.3f}, metric {task.final_metric[best]:.3f}; the median "
        f"loss is {np.median(task.final_loss):.3f}. The highest rate is the best one for {edge} of {methods} methods."
    )
    if task.task not in noise:
        return words
    loss, metric, freedom = noise[task.task]
    return f"{words} Between seeds the loss varies by {loss:.3f} (SD), the metric by {metric:.3f} ({freedom} d.f.)."


def _best_rates(task: Comparison) -> str:
    rows = ["| method | best rate | final loss | metric |", "|---|---|---|---|"]
    best = [own[np.argmin(task.final_loss[own])] for own in _by_method(task)]
    for i in sorted(best, key=lambda i: task.final_loss[i]):
        rows.append(
            f"| {task.methods[i]} | {task.rates[i]:g} | {task.final_loss[i]:.3f} | {task.final_metric[i]:.3f} |"
        )
    return "\n".join(rows)


def _by_method(task: Comparison) -> list[np.ndarray]:
    return [np.flatnonzero(task.methods == method) for method in dict.fromkeys(task.methods)]


def _table(scores: dict[Probe, Score]) -> str:
    rows = [HEADER, "|---" + "|---:" * 9 + "|"]
    for (protocol, fraction), s in scores.items():
        rows.append(
            f"| {protocol} {100 * fraction:g} % | {s.cost:.2f} | {s.race_cost:.3f} "
            f"| {s.spearman:.2f} ({s.low:.2f}–{s.high:.2f}) | {100 * s.best_share:.0f} % | {s.regret_loss:.3f} "
            f"| {s.regret_metric:.3f} | {s.rate_regret:.3f} | {s.rate_bias:+.2f} | {s.pair_change:.2f} |"
        )
    return "\n".join(rows)


def plot(results: Sequence[StudyResult], folder: Path) -> list[Path]:
    """One figure for each task: the full runs of every method at its best rate, and how well each probe ranks."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "study"  # the same figure is the same file
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [task for task in comparisons(results) if len(task) >= LEAST_CANDIDATES]
    return [_plot_task(task, [r for r in results if r.task == task.task], folder) for task in tasks]


def _plot_task(task: Comparison, results: Sequence[StudyResult], folder: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    curves, ranks = figure.subplots(1, 2, width_ratios=(3, 2))
    runs = {(r.method, r.learning_rate): r.run("full", 1.0) for r in results if r.seed == 0}
    best = sorted((own[np.argmin(task.final_loss[own])] for own in _by_method(task)), key=lambda i: task.final_loss[i])
    colours = _colours(len(best))
    for colour, i in zip(colours, best, strict=True):
        points = runs[task.methods[i], task.rates[i]].points
        label = f"{task.methods[i]} {task.rates[i]:g}"
        curves.plot([p.step for p in points], [p.eval_loss for p in points], ".-", color=colour, label=label)
    curves.set(title=f"{task.task}: each method at its best rate", xlabel="step", ylabel="held-out loss, nats")
    curves.legend(fontsize=7, ncols=2)
    scores = score([task])
    for beside, protocol in zip((0.95, 1.0, 1.05), task.protocols, strict=False):  # or their bars hide each other
        of = [(fraction, s) for (name, fraction), s in scores.items() if name == protocol]
        ranks.errorbar(
            [100 * fraction * beside for fraction, _ in of],
            [s.spearman for _, s in of],
            yerr=np.clip([[s.spearman - s.low for _, s in of], [s.high - s.spearman for _, s in of]], 0, None),
            marker="o",
            capsize=3,
            label=protocol,
        )
    ranks.set(title="rank correlation with the full run", xlabel="length of the probe, % of the run", xscale="log")
    ranks.set_xticks([100 * fraction for fraction in sorted({f for _, f in scores})], labels=["2", "5", "10", "20"])
    ranks.minorticks_off()
    ranks.legend()
    path = folder / f"{task.task}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _colours(count: int) -> list:
    from matplotlib import colormaps

    return [colormaps["turbo"](x) for x in np.linspace(0.05, 0.95, count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of a running study, to look at it before it is collected")
    parser.add_argument("--plots", type=Path, help="folder to draw into, e.g. examples/study/plots")
    arguments = parser.parse_args()
    if arguments.plots and find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib, which is not installed: pip install 'peft-advisor[study]'")
    found = {(r.task, r.candidate): r for r in read_collected()}
    if arguments.out:
        found |= {(r.task, r.candidate): r for r in read_running(arguments.out)}
    results = list(found.values())
    print(report(results))
    if arguments.plots:
        for path in plot(results, arguments.plots):
            print(f"\n![{path.stem}]({path.name})")


if __name__ == "__main__":
    main()
