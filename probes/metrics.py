"""What is measured of held-out answers beside their loss: a metric that every data set has, or one of the user's own.

An own metric is a function in a Python file, given as FILE.py:FUNCTION. It gets two lists of strings, what the model
predicts and what is right, one entry per held-out row, and returns a number that is higher the better. The prediction
is the most likely token at each place given the right ones before it, so that nothing has to be generated; of a
classifier it is the name of the class.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from knowledge.errors import AdvisorError, BadInput
from knowledge.places import at_home
from knowledge.schema import Task

MACRO_F1 = "macro F1"
BUILT_IN: dict[str, tuple[Task, ...]] = {
    "exact match": ("causal-lm", "seq2seq-lm"),
    "token accuracy": ("causal-lm", "seq2seq-lm"),
    "accuracy": ("sequence-classification",),
    MACRO_F1: ("sequence-classification",),
}
EVAL_LOSS, TRAIN_LOSS = "eval loss", "train loss"
LOSSES = (EVAL_LOSS, TRAIN_LOSS)  # what is lower the better


class MetricFailed(AdvisorError):
    """The user's own metric raised an error or returned no number."""


class OwnMetric:
    """A metric of the user's. Making it runs the file."""

    def __init__(self, place: str, decode: Callable[[Sequence[int]], str]) -> None:
        """`place`: FILE.py:FUNCTION; `decode`: token ids, or the number of a class, as text. Raises BadInput."""
        self.place = place
        self._decode = decode
        self._function = _function(place)

    def __call__(self, predicted: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
        """The metric of rows of predicted and right ids. Raises MetricFailed."""
        texts = [[self._decode(ids) for ids in rows] for rows in (predicted, right)]
        try:
            value = float(self._function(*texts))
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            where = _line_in(self.place.rpartition(":")[0], error)
            raise MetricFailed(f"The metric {self.place} failed{where}: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise MetricFailed(f"The metric {self.place} returned {value}. It must be finite, and higher the better.")
        return value


def macro_f1(predicted: ArrayLike, right: ArrayLike) -> float:
    """The mean over the classes of their F1, so that rare ones count as much as others; of the classes that the rows
    have, for what a model never gets to see it cannot be judged by.

    predicted, right: the number of a class per row, of shape (rows,) or (rows, 1).
    """
    predicted, right = np.ravel(predicted), np.ravel(right)
    counts = [np.bincount(ids, minlength=1 + max(predicted.max(), right.max())) for ids in (predicted, right)]
    hits = np.bincount(right[predicted == right], minlength=len(counts[0]))
    return float((2 * hits / np.maximum(1, sum(counts)))[counts[1] > 0].mean())


def independent_rows(metric: str, class_labels: Sequence[int] | np.ndarray | None, rows: int) -> float:
    """How many rows would tell as much of a share of right answers as the first `rows` held-out ones do of `metric`.

    A mean over classes is told by the few rows of the rare ones: where a share s of each class is right, of n_c rows
    each, its variance is s (1 - s) times the mean of 1 / n_c over the number of classes.
    """
    if metric != MACRO_F1 or class_labels is None:
        return rows
    counts = np.unique(np.asarray(class_labels)[:rows], return_counts=True)[1]
    return float(len(counts) / np.mean(1 / counts))


def canonical_name(metric: str) -> str:
    """The metric as it is called here where it is a built-in one in another spelling: 'macro F1' for 'macro-f1'."""
    known = {name.casefold(): name for name in BUILT_IN}
    return known.get(" ".join(re.split(r"[\s_-]+", metric.strip().casefold())), metric)


def check_metric(metric: str, task: Task) -> None:
    """Raises BadInput where the metric is neither built in and made for the task, nor FILE.py:FUNCTION."""
    if is_own(metric):
        _function(metric)
    elif task not in BUILT_IN.get(metric, ()):
        known = [name for name, tasks in BUILT_IN.items() if task in tasks]
        raise BadInput(
            f"There is no metric {metric!r} for {task}. Known: {', '.join(known)}, or a function of your own as "
            "FILE.py:FUNCTION."
        )


def is_own(metric: str) -> bool:
    return ".py:" in metric


def own_place(metric: str | None) -> str | None:
    """FILE.py:FUNCTION for a process that runs in another folder; None for a metric that is built in."""
    if metric is None or not is_own(metric):
        return None
    file, _, function = metric.rpartition(":")
    return f"{at_home(file).resolve()}:{function}"


def code_fingerprint(metric: str | None) -> str:
    """Tells own metrics of one name apart by the code of their files; '' for what is built in."""
    if (place := own_place(metric)) is None:
        return ""
    file, _, function = place.rpartition(":")
    code = Path(file).read_bytes() if Path(file).is_file() else b""
    return f"{function} {hashlib.sha256(code).hexdigest()[:16]}"


def is_share(name: str) -> bool:
    """Whether a metric of that name is a share, from 0 to 1, with 1 for right answers alone: those built in, also as
    benchmarks tell of which rows they are. What a metric of the user's own is, its name does not say."""
    return _without_split(name) in BUILT_IN


def counts_rows_alike(name: str) -> bool:
    """Whether it is a share of right answers, to which each row (or token) adds as much as any other."""
    return is_share(name) and _without_split(name) != MACRO_F1


def _without_split(name: str) -> str:
    return name.removeprefix("held-out ").removeprefix("test ").removeprefix("valid ")


def title(metric: str) -> str:
    """How the metric is called in reports: 'letter overlap' for metrics.py:letter_overlap, 'own accuracy' where another
    has the name."""
    if not is_own(metric):
        return metric
    name = metric.rpartition(":")[2].replace("_", " ")
    return f"own {name}" if canonical_name(name) in BUILT_IN or name in LOSSES else name


def _line_in(name: str, error: BaseException) -> str:
    """' in line 7' of the file where the error passed through it, '' else."""
    path = str(at_home(name))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" in line {lines[-1]}" if lines else ""


def _function(place: str) -> Callable[[list[str], list[str]], Any]:
    name, _, function = place.rpartition(":")
    path = at_home(name)
    if not path.is_file():
        raise BadInput(f"The metric {place} cannot be read: there is no file {path}. Give FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location("advisor_own_metric", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types that they name
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # it may import its neighbours, as a script may
    try:
        with redirect_stdout(sys.stderr):  # stdout is for the result alone
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and a script may end itself
        raise BadInput(f"The metric's file {path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    found = getattr(module, function, None)
    if not callable(found):
        raise BadInput(f"{path} has no function {function!r}. Give FILE.py:FUNCTION.")
    return found
