"""Work that is long goes to processes, and comes back as if it had been done here."""

import logging
import os
import signal
import time
import warnings

import psutil
import pytest

from probes import parallel
from probes.parallel import map_on_cores


def square(number):
    return number * number, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def fail_elsewhere(home):
    if os.getpid() != home:
        raise ValueError("not at home")
    time.sleep(0.5)  # until the others are there
    return home


def die_elsewhere(home):
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return home


def warn(home):
    if os.getpid() == home:
        time.sleep(0.5)
        return
    logging.getLogger("quiet library").warning("of no interest")
    warnings.warn("of no interest either", stacklevel=1)


def sleep(seconds):
    time.sleep(seconds)
    return seconds, os.getpid()


@pytest.fixture
def at_once(monkeypatch):
    """As if the first item had shown that the rest takes long."""
    monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", -1.0)
    monkeypatch.setattr(parallel, "cpu_cores", lambda: 2)


def test_short_work_stays_here():
    assert list(map_on_cores(square, [3, 1, 2])) == [(n * n, os.getpid()) for n in (3, 1, 2)]
    assert list(map_on_cores(square, [])) == []


def test_long_work_is_shared_and_comes_back_in_order(at_once):
    seconds = [0.3 - i / 100 for i in range(20)]
    results, processes = zip(*map_on_cores(sleep, seconds), strict=True)
    assert results == tuple(seconds)
    here = [process == os.getpid() for process in processes]
    assert here == sorted(here, reverse=True)  # from the front
    assert len(set(processes)) == 2


def test_on_one_core_everything_stays_here(at_once, monkeypatch):
    monkeypatch.setattr(parallel, "cpu_cores", lambda: 1)
    assert {process for _, process in map_on_cores(square, range(3))} == {os.getpid()}


def test_what_fails_there_fails_here(at_once):
    results = map_on_cores(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_what_fails_elsewhere_fails_here(at_once):
    with pytest.raises(ValueError, match="not at home"):
        list(map_on_cores(fail_elsewhere, [os.getpid()] * 20))


def test_what_a_killed_process_leaves_is_done_here(at_once):
    assert list(map_on_cores(die_elsewhere, [os.getpid()] * 20)) == [os.getpid()] * 20


def test_libraries_are_as_quiet_there_as_here(at_once, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger("quiet library"), "level", logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(map_on_cores(warn, [os.getpid()] * 6))
    assert "of no interest" not in capfd.readouterr().err
    list(map_on_cores(warn, [os.getpid()] * 6))
    assert "of no interest either" in capfd.readouterr().err  # so it would have been heard


def test_nothing_runs_on_when_the_rest_is_not_wanted(at_once, capfd):
    earlier = psutil.Process().children(recursive=True)  # of other tests
    results = map_on_cores(sleep, [0, 0, 3, *[60] * 10])
    for _ in range(3):
        next(results)
    started = [process for process in psutil.Process().children(recursive=True) if process not in earlier]
    workers = [process for process in started if "resource_tracker" not in " ".join(process.cmdline())]
    assert workers
    results.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    time.sleep(0.2)  # for the thread that looks after the processes
    assert "Traceback" not in capfd.readouterr().err
