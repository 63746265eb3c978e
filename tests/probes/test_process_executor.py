"""The process executor with real processes: jobs always end in an outcome, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probes.executors import process
from probes.executors.process import ProcessExecutor, in_words
from probes.schema import ProbeContext, ProbeJob

# Speaks the worker's protocol without a model: each job's learning rate says how it behaves.
SCRIPT = """
import json, os, signal, sys, time
json.loads(sys.stdin.readline())
send = lambda **m: print(json.dumps(m), flush=True)
if {fatal}: send(fatal="no such model"); sys.exit(1)
if "CUDA_VISIBLE_DEVICES" in os.environ and os.environ["CUDA_VISIBLE_DEVICES"] == "9": sys.exit(4)
send(baseline=dict(eval_loss=2.0, metric=0.1, load_s=0.1, eval_s=0.1, eval_tokens=10))
for line in sys.stdin:
    job = json.loads(line)["job"]
    if job["learning_rate"] == 9: os.kill(os.getpid(), signal.SIGKILL)
    if job["learning_rate"] == 8: time.sleep(60)
    if job["learning_rate"] == 7: print("{{half a line", end="", flush=True); os._exit(3)
    send(step=dict(id=job["id"], step=1, loss=1.5))
    send(point=dict(id=job["id"], step=job["stop_step"], eval_loss=1.0))
    send(outcome=dict(id=job["id"], status="finished", last_step=job["stop_step"]))
"""


@pytest.fixture
def executor(tmp_path, monkeypatch):
    return make_executor(tmp_path, monkeypatch, fatal=False)


def make_executor(tmp_path, monkeypatch, fatal, devices=None):
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT.format(fatal=fatal))
    monkeypatch.setattr(process, "WORKER_COMMAND", [sys.executable, str(script)])
    executor = ProcessExecutor(2, devices)
    executor.start(
        ProbeContext(
            model_reference="m",
            task="causal-lm",
            data_folder=str(tmp_path),
            work_folder=str(tmp_path),
            batch_size=1,
            eval_rows=1,
            metric_name="accuracy",
        )
    )
    return executor


def outcomes_of(executor, jobs):
    for job in jobs:
        executor.submit(job)
    ended = {}
    while len(ended) < len(jobs):
        for event in executor.events(timeout_s=0.3):
            if event.outcome:
                ended[event.outcome.id] = event.outcome
    return ended


def job(id, behaviour=0.0, **settings):
    return ProbeJob(id=id, method="lora", learning_rate=behaviour, stop_step=5, **settings)


def test_every_job_ends_and_its_points_arrive(executor):
    with executor:
        for i in range(5):
            executor.submit(job(f"job-{i}"))
        events = list(executor.events(timeout_s=5))
    assert sum(e.baseline is not None for e in events) == 2
    assert sorted(e.outcome.id for e in events if e.outcome) == [f"job-{i}" for i in range(5)]
    assert all(e.point.eval_loss == 1.0 for e in events if e.point)
    assert {e.worker for e in events} == {0, 1}


def test_a_killed_worker_costs_its_job_alone(executor):
    with executor:
        ended = outcomes_of(executor, [job("a"), job("killed", 9), job("b"), job("exits", 7), job("c")])
    assert ended["killed"].status == "failed"
    assert "SIGKILL" in ended["killed"].reason
    assert "exit code 3" in ended["exits"].reason
    assert ended["killed"].worker_lost
    assert [ended[id].status for id in "abc"] == ["finished"] * 3


def test_a_job_that_says_nothing_is_ended_when_its_time_is_up(executor):
    with executor:
        ended = outcomes_of(executor, [job("hangs", 8, silence_limit_s=0.5), job("a", silence_limit_s=0.5), job("b")])
    assert ended["hangs"].status == "failed"
    assert "taken for hung" in ended["hangs"].reason
    assert not ended["hangs"].worker_lost
    assert [ended[id].status for id in "ab"] == ["finished"] * 2


def test_cancel_ends_running_jobs_at_once_and_the_executor_goes_on(executor):
    with executor:
        executor.submit(job("hangs", 8))
        while not any(event.started for event in executor.events(timeout_s=0.2)):
            pass
        executor.cancel()
        assert outcomes_of(executor, [job("after")])["after"].status == "finished"


def test_a_worker_that_cannot_start_is_reported_once_and_ends_the_wait(tmp_path, monkeypatch):
    with make_executor(tmp_path, monkeypatch, fatal=True) as executor:
        executor.submit(job("a"))
        assert any(event.fatal == "no such model" for event in executor.events(timeout_s=5))


def test_a_race_goes_on_without_the_worker_that_cannot_start(tmp_path, monkeypatch):
    with make_executor(tmp_path, monkeypatch, fatal=False, devices=[9, 0]) as executor:
        ended = outcomes_of(executor, [job("a"), job("b")])
    assert {outcome.status for outcome in ended.values()} == {"finished"}


def test_closing_leaves_no_process(executor):
    with executor:
        executor.submit(job("hangs", 8))
        while not any(event.started for event in executor.events(timeout_s=0.2)):
            pass
        pids = [worker.process.pid for worker in executor._pool if worker]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


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
    assert in_words(-15) == "killed (SIGTERM)"
    assert in_words(2) == "ended with exit code 2"
