"""The same work for many items, on all cores where that is worth starting processes for."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from probes.device import cpu_cores

# Of work that is left: a process has to import PyTorch, transformers and PEFT first, which takes about 4 s.
WORTH_PROCESSES_S = 8.0
MAX_PROCESSES = 8  # with this one; each may hold a gigabyte
AHEAD = 2  # items that another process is given at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the order of `items`, each as soon as it and those before it are there.

    The first ones are made here, which shows how long one takes: work that is short, or was done before and is read
    from a cache, never leaves this process. Of longer work this process goes on from the front while others, once they
    have started, work from the end. What leaves it is pickled, and `function` must not depend on what this process has
    changed since it started. What `function` raises is raised here.
    """
    for done, item in enumerate(items, start=1):
        started = time.perf_counter()
        result = function(item)
        left = items[done:]
        is_worth_it = (time.perf_counter() - started) * len(left) > WORTH_PROCESSES_S
        yield result
        if is_worth_it and (processes := min(cpu_cores(), MAX_PROCESSES, len(left))) > 1:
            yield from _shared_with(processes - 1, function, left)
            return


def _shared_with(processes: int, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    # Loky's processes do not run the user's script again, as those of multiprocessing do where it guards no main().
    from loky import BrokenProcessPool, ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        processes,
        initializer=_be_as_quiet,
        initargs=(_log_levels(), warnings.filters),
        env={"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    given: dict[int, Future[Result]] = {}
    done, first_given = 0, len(items)
    try:
        while done < len(items):
            # No more than the others need until this process looks again: what was given cannot be taken back.
            while first_given > done + 1 and sum(not f.done() for f in given.values()) < AHEAD * processes:
                first_given -= 1
                given[first_given] = pool.submit(function, items[first_given])
            yield given[done].result() if done in given else function(items[done])
            done += 1
    except BrokenProcessPool:  # one was killed, most likely for want of memory: one after the other needs less of it
        yield from map(function, items[done:])
    finally:  # what still runs is of no use where the user has pressed Ctrl-C, or nobody wants the rest
        pool.shutdown(kill_workers=done < len(items))


def _log_levels() -> dict[str, int]:
    loggers = logging.root.manager.loggerDict.items()
    return {name: logger.level for name, logger in loggers if isinstance(logger, logging.Logger) and logger.level}


def _be_as_quiet(log_levels: Mapping[str, int], filters: Sequence[Any]) -> None:
    """What libraries say there is not what the user asked for, no more than it is here."""
    for name, level in log_levels.items():
        logging.getLogger(name).setLevel(level)
    warnings.filters[:] = filters
