"""Ctrl-C is answered, also where Python drops it or a library makes another error of it."""

import signal
import sys
import time
import weakref
from contextlib import suppress

import pytest

from probes import interrupts
from probes.interrupts import finishing
from tests.probes.conducting import FakeExecutor, conduct


@pytest.fixture
def listening():
    hook = sys.unraisablehook
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.listen()
    yield
    sys.unraisablehook = hook
    interrupts.answered()
    for number, handler in before.items():
        signal.signal(number, handler)


class Dropped:
    """When it is collected, a signal arrives in the callback of a weak reference to it."""

    def __init__(self, number):
        watches.append(weakref.ref(self, lambda _: signal.raise_signal(number)))


watches = []  # a reference that dies with its object calls nobody


def swallow_an_interrupt():
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_is_raised_once_more(listening, capsys, number):
    Dropped(number)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(60)
    assert capsys.readouterr().err == ""


def test_a_dropped_interrupt_that_was_answered_meanwhile_is_not_raised_again(listening):
    Dropped(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    interrupts.answered()
    time.sleep(4 * interrupts.AGAIN_AFTER_S)


def test_an_interrupt_that_somebody_swallows_is_raised_by_the_next_check(listening):
    interrupts.check()
    swallow_an_interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    interrupts.answered()
    interrupts.check()


def test_a_race_whose_interrupt_was_swallowed_ends_with_what_was_measured(listening, tmp_path):
    def fate(job):
        if job.id == "c":
            swallow_an_interrupt()
        return "finished"

    executor = OneByOne(fate)
    evidence, _ = conduct(tmp_path / "journal.jsonl", executor)
    assert evidence.interrupted
    assert [job for job, outcomes in evidence.outcomes.items() if outcomes] == ["a", "b", "c"]
    assert executor.cancelled
    assert not interrupts.asked()  # it is answered: what fails from here on has failed by itself


class OneByOne(FakeExecutor):
    """Gives the conductor the word after each job, as an executor does whose jobs take their time."""

    def events(self, timeout_s):
        for event in super().events(timeout_s):
            yield event
            if event.outcome:
                return


def test_the_first_ctrl_c_lets_what_is_under_way_be_finished_and_the_second_does_not(python_s_own_handler):
    said = []
    with finishing(said.append):
        signal.raise_signal(signal.SIGINT)
        finished = True
    assert finished
    assert "writing down" in said[0]
    with pytest.raises(KeyboardInterrupt), finishing(said.append):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_machine_that_is_taken_back_lets_what_is_under_way_be_finished_too(listening):
    said, handlers = [], [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with finishing(said.append):
        signal.raise_signal(signal.SIGTERM)
    assert "writing down" in said[0]
    with pytest.raises(KeyboardInterrupt), finishing(said.append):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.fixture
def python_s_own_handler():
    """Where tests run in the background of a shell, signals from the keyboard are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
