"""What local worker processes do beside what every executor does (tests/contracts/test_executors.py)."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knowledge.errors import BadInput
from probes.executors.process import WORKER_COMMAND, ProcessExecutor, in_words
from probes.executors.ray_seat import Seat, installed_versions
from probes.worker import words_of
from tests.contracts.test_executors import job, outcomes_of, wait_for
from tests.probes import stub_worker
from tests.probes.stub_context import stub_context


def test_a_race_goes_on_without_the_worker_that_cannot_start(tmp_path):
    with ProcessExecutor(2, devices=["9", "0"], command=[sys.executable, stub_worker.__file__]) as executor:
        executor.start(stub_context(tmp_path))  # a worker on device 9 ends at once
        ended = outcomes_of(executor, [job("a"), job("b")])
    assert {outcome.status for outcome in ended.values()} == {"finished"}


def test_where_no_further_process_can_be_started_the_race_is_told_and_keeps_what_it_has(tmp_path):
    """As where a container allows no more processes: what waits is run by the workers that are there."""
    with ProcessExecutor(2, command=[sys.executable, "-S", stub_worker.__file__]) as executor:
        executor.start(stub_context(tmp_path))
        executor._command = ["/no/such/interpreter"]
        assert outcomes_of(executor, [job("raises", 6), job("a"), job("b"), job("c")])["c"].status == "finished"
        for id in ("again", "d"):
            executor.submit(job(id, 6))
        assert "/no/such/interpreter" in wait_for(executor, lambda event: event.fatal).fatal


def test_workers_that_share_a_card_share_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(ProcessExecutor, "_spawn", lambda self, index: None)
    shares = []
    for workers, devices in ((1, ["0"]), (2, ["0", "1"]), (3, ["0", "1"]), (4, None)):
        executor = ProcessExecutor(workers, devices)
        executor.start(stub_context(tmp_path))
        shares.append(executor._context.memory_share)
    assert shares == [1, 1, 0.5, 1]


def test_a_worker_of_a_cluster_keeps_to_its_part_of_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(ProcessExecutor, "_spawn", lambda self, index: None)
    context = stub_context(tmp_path).model_copy(update={"memory_share": 0.25})
    seat = Seat(context, {}, installed_versions(), None)
    assert seat._executor._context.memory_share == 0.25
    seat.close()


def test_while_this_process_was_stopped_nobody_was_silent(tmp_path):
    """As under Ctrl-Z, by clocks that are put back: a quarter of an hour passes and nobody looks at the workers."""
    with ProcessExecutor(2, command=[sys.executable, "-S", stub_worker.__file__]) as executor:
        executor.start(stub_context(tmp_path))
        for id in "ab":
            executor.submit(job(id, silence_limit_s=600.0))
        wait_for(executor, lambda event: event.started)
        for worker in executor._pool:
            worker.last_heard -= 900
        executor._looked -= 900
        ended = []
        while len(ended) < 2:
            ended += [event.outcome.status for event in executor.events(timeout_s=0.3) if event.outcome]
    assert ended == ["finished"] * 2


def test_places_whose_worker_could_not_start_are_no_workers_that_a_plan_counts_on():
    executor = ProcessExecutor(4)
    assert executor.workers == 4
    executor._given_up |= {1, 2, 3}
    assert executor.workers == 1


def test_files_of_the_users_folder_are_not_imported_by_a_worker(tmp_path):
    for name in ("queue", "knowledge", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    done = subprocess.run(WORKER_COMMAND, cwd=tmp_path, input="", capture_output=True, text=True, timeout=120)
    assert "imported" not in done.stderr and "Error" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_worker_does_not_outlive_its_parent():
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys\n"
            "w = subprocess.Popen([sys.executable, '-m', 'probes.worker'], stdin=subprocess.PIPE, "
            "stdout=subprocess.PIPE, start_new_session=True)\n"
            "import time; time.sleep(1)\n"
            "print(w.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    worker_pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        try:
            if Path(f"/proc/{worker_pid}/stat").read_text().split()[2] == "Z":
                return
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def test_signals_become_words():
    assert in_words(-9) == "killed (SIGKILL): probably out of host memory"
    assert in_words(-35) == "killed (signal 35)"
    assert in_words(-15) == "killed (SIGTERM)"
    assert in_words(2) == "ended with exit code 2"


def test_a_message_for_users_is_told_without_the_kind_of_the_error():
    assert words_of(BadInput("no such model")) == "no such model"
    assert words_of(KeyError("weight")) == "KeyError: 'weight'"
