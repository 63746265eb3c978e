"""What every executor does, wherever its workers are: a job always ends in an outcome, and nothing stays behind."""

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from probes.executors.process import ProcessExecutor
from probes.schema import ProbeJob
from tests.probes import stub_worker
from tests.probes.stub_context import stub_context
from tests.zygote import worker_command

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
EXECUTORS = ["process", pytest.param("ray", marks=needs_ray)]


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(params=EXECUTORS)
def make(request, tmp_path):
    """make(workers, *options of the stub worker): an executor that was started, and closed with the test."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    opened = []

    def make(workers=2, *options):
        command = [sys.executable, stub_worker.__file__, *options]
        if request.param == "ray":
            from probes.executors.ray import RayExecutor

            executor = RayExecutor(workers=workers, command=command)
        else:
            executor = ProcessExecutor(workers, command=command)
        opened.append(executor)
        executor.start(stub_context(tmp_path))
        return executor

    yield make
    for executor in opened:
        executor.close()


def job(id, behaviour=0.0, stop_step=5, **settings):
    return ProbeJob(id=id, method="lora", learning_rate=behaviour, stop_step=stop_step, **settings)


def events_of(executor, jobs):
    """All events until each of `jobs` has ended."""
    for each in jobs:
        executor.submit(each)
    waiting, events = {each.id for each in jobs}, []
    while waiting:
        for event in executor.events(timeout_s=0.3):
            events.append(event)
            assert event.fatal is None
            if event.outcome:
                waiting.discard(event.outcome.id)
    return events


def outcomes_of(executor, jobs):
    return {event.outcome.id: event.outcome for event in events_of(executor, jobs) if event.outcome}


def wait_for(executor, condition):
    while True:
        for event in executor.events(timeout_s=0.3):
            if condition(event):
                return event


def test_every_job_ends_and_its_points_arrive(make):
    executor = make(2)
    events = events_of(executor, [job(f"job-{i}") for i in range(5)])
    assert executor.workers == 2
    assert sorted(e.outcome.id for e in events if e.outcome) == [f"job-{i}" for i in range(5)]
    assert sorted(e.job_id for e in events if e.started) == [f"job-{i}" for i in range(5)]
    assert [e.step for e in events if e.step and e.job_id == "job-0"] == [(step, 1.5) for step in range(1, 6)]
    assert [e.point.step for e in events if e.point] == [5] * 5
    assert any(e.baseline for e in events)
    assert {e.worker for e in events} <= {0, 1}


def test_a_killed_worker_costs_its_job_alone(make):
    ended = outcomes_of(make(2), [job("a"), job("killed", 9), job("b"), job("exits", 7), job("c")])
    assert ended["killed"].status == "failed"
    assert ended["killed"].worker_lost
    assert "SIGKILL" in ended["killed"].reason
    assert "exit code 3" in ended["exits"].reason
    assert [ended[id].status for id in "abc"] == ["finished"] * 3


def test_what_a_method_raises_is_told_and_the_next_probe_gets_a_fresh_worker(make):
    ended = outcomes_of(make(1), [job("raises", 6), job("a")])
    assert (ended["raises"].status, ended["raises"].reason) == ("failed", "raised")
    assert not ended["raises"].worker_lost
    assert ended["a"].status == "finished"


def test_where_no_new_worker_can_load_the_others_take_the_jobs(make, tmp_path):
    executor = make(2, f"broken={tmp_path / 'broken'}", f"pids={tmp_path / 'pids'}", "seconds=0.3")
    executor.submit(job("first"))
    wait_for(executor, lambda event: event.outcome)
    while len((tmp_path / "pids").read_text().split()) < 2:
        time.sleep(0.05)
    ended = outcomes_of(executor, [job("raises", 6), job("a"), job("b"), job("c")])
    assert {id: outcome.status for id, outcome in ended.items()} == {
        "raises": "failed", "a": "finished", "b": "finished", "c": "finished",
    }  # fmt: skip


def test_a_job_that_says_nothing_is_ended_when_its_time_is_up(make):
    ended = outcomes_of(make(2), [job("hangs", 8, silence_limit_s=0.5), job("a", silence_limit_s=5)])
    assert ended["hangs"].status == "failed"
    assert "taken for hung" in ended["hangs"].reason
    assert ended["a"].status == "finished"


def test_cancel_ends_running_jobs_at_once_and_the_executor_goes_on(make):
    executor = make(1)
    executor.submit(job("hangs", 8))
    executor.submit(job("never begun"))
    wait_for(executor, lambda event: event.started)
    executor.cancel()
    assert list(outcomes_of(executor, [job("after")])) == ["after"]


def test_workers_that_cannot_start_are_one_event_for_all_of_them(make):
    executor = make(2, "fatal")
    executor.submit(job("a"))
    assert wait_for(executor, lambda event: event.fatal).fatal == "no such model"
    assert list(executor.events(timeout_s=0.3)) == []


def test_a_candidate_goes_on_from_its_checkpoint_whoever_trained_it_before(make, tmp_path):
    executor = make(2)
    outcomes_of(executor, [job("a", stop_step=3), job("b", stop_step=4)])
    assert (tmp_path / "a" / "checkpoint.safetensors").read_text() == "3"
    ended = outcomes_of(executor, [job("b", stop_step=6), job("a", stop_step=6), job("c", stop_step=6)])
    assert {id: outcome.first_step for id, outcome in ended.items()} == {"a": 3, "b": 4, "c": 0}


def test_closing_leaves_no_process(make, tmp_path):
    executor = make(2, f"pids={tmp_path / 'pids'}")
    executor.submit(job("hangs", 8))
    wait_for(executor, lambda event: event.started)
    while len((tmp_path / "pids").read_text().split()) < 2:
        time.sleep(0.05)
    executor.close()
    assert [pid for pid in (tmp_path / "pids").read_text().split() if is_running(int(pid))] == []


def test_a_worker_that_does_not_end_after_a_failure_is_ended(make, tmp_path):
    """A driver in a bad state can keep a process from its end, and with it the memory that the next one needs."""
    executor = make(1, f"pids={tmp_path / 'pids'}")
    assert outcomes_of(executor, [job("fails and stays", 5), job("a")])["a"].status == "finished"
    assert not is_running(int((tmp_path / "pids").read_text().split()[0]))


def is_running(pid):
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
            os.kill(pid, 0)
        except (OSError, ProcessLookupError):
            return False
        time.sleep(0.1)
    return True


@needs_ray
@pytest.mark.fault("a node of a Ray cluster lost")
def test_a_node_that_is_lost_costs_its_jobs_and_the_race_goes_on_elsewhere(cluster, tmp_path):
    from probes.executors.ray import RayExecutor

    node = cluster.add_node(num_cpus=1, resources={"lost": 1})
    cluster.wait_for_nodes()
    with RayExecutor(workers=5, command=[sys.executable, stub_worker.__file__]) as executor:
        there = next(i for i, place in enumerate(executor._places) if place.node_id == node.node_id)
        executor.start(stub_context(tmp_path))
        ready = set()
        while there not in ready:
            ready |= {event.worker for event in executor.events(timeout_s=0.3) if event.baseline}
        for i in range(5):
            executor.submit(job(f"job-{i}", 8))  # hangs: however long a node takes to go, it is lost in the middle
        lost = wait_for(executor, lambda event: event.started and event.worker == there).job_id
        cluster.remove_node(node, allow_graceful=False)
        outcome = wait_for(executor, lambda event: event.outcome and event.outcome.id == lost).outcome
        assert outcome.worker_lost
        assert "was lost" in outcome.reason
        executor.cancel()
        ended = outcomes_of(executor, [job(f"job-{i}") for i in range(6)])
        assert {outcome.status for outcome in ended.values()} == {"finished"}
    cluster.wait_for_nodes()  # Ray may find out later than we do, and would offer the dead one to the next test


@needs_ray
def test_a_place_that_other_work_holds_is_told_once_and_waited_for(cluster, tmp_path, monkeypatch):
    import ray

    from probes.executors import ray as on_ray

    monkeypatch.setattr(on_ray, "PATIENCE_S", 0.1)
    with on_ray.RayExecutor(workers=1, command=[sys.executable, stub_worker.__file__]) as executor:
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(executor._places[0].node_id, soft=False)
        other = ray.remote(num_cpus=2, scheduling_strategy=there)(type("Other", (), {"ping": lambda self: 1})).remote()
        ray.get(other.ping.remote())
        executor.start(stub_context(tmp_path))
        seen = [event for _ in range(3) for event in executor.events(timeout_s=0.2)]
        assert [event.worker for event in seen] == [0] and "ray status" in seen[0].waiting
        ray.kill(other)
        assert wait_for(executor, lambda event: event.baseline or event.waiting).baseline


@needs_ray
def test_what_ray_says_of_a_lost_node_does_not_reach_the_output(cluster, tmp_path, capsys):
    from probes.executors.ray import RayExecutor

    with RayExecutor(workers=1, command=[sys.executable, stub_worker.__file__]) as executor:
        executor.start(stub_context(tmp_path))
        print("(raylet) twenty lines of a log")
    print("the result")
    assert capsys.readouterr().out == "the result\n"
    assert "twenty lines" in (tmp_path / "ray.log").read_text()


@needs_ray
def test_another_cluster_than_the_one_asked_for_is_not_taken_in_its_place(cluster):
    from probes.executors.ray_places import ClusterUnavailable, connect

    assert connect(cluster.address) is connect(None) is False
    with pytest.raises(ClusterUnavailable, match=f"connected to .* {cluster.address}, and .* 127.0.0.1:1 was asked"):
        connect("127.0.0.1:1")


def test_no_cluster_at_the_address_is_told_at_once_with_what_to_give():
    from probes.executors.ray_places import ClusterUnavailable, check_reachable

    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(ClusterUnavailable, match=f"No Ray cluster answers at {address}.* --ray-address"):
            check_reachable(address)
    check_reachable("auto")


def node(id, **resources):
    return {"NodeID": id, "NodeManagerAddress": f"10.0.0.{id}", "Resources": {"CPU": 8.0} | resources}


GB = 10**9


@pytest.mark.parametrize(
    ("nodes", "memory_bytes", "cards", "expected"),
    [
        ([node("1"), node("2", CPU=7.0)], None, {}, [("1", 4.0, 0), ("2", 4.0, 0), ("1", 4.0, 0)]),
        ([node("1", GPU=2.0), node("2")], None, {}, [("1", 0, 1), ("1", 0, 1)]),
        ([node("1", GPU=1.0)], 20 * GB, {"1": 80 * GB}, [("1", 0, 0.25)] * 4),
        (
            [node("1", GPU=1.0), node("2", GPU=1.0)],
            20 * GB,
            {"1": 45 * GB, "2": 24 * GB},
            [("1", 0, 0.5), ("2", 0, 1), ("1", 0, 0.5)],
        ),
        ([node("1", GPU=1.0), node("2", GPU=1.0)], 40 * GB, {"1": 24 * GB, "2": 80 * GB}, [("2", 0, 0.5)] * 2),
        ([node("1", GPU=1.0)], 40 * GB, {"1": 24 * GB}, [("1", 0, 1)]),
        ([node("1", GPU=1.0)], 40 * GB, {}, [("1", 0, 1)]),
    ],
)
def test_workers_are_placed_by_the_memory_of_cards(nodes, memory_bytes, cards, expected):
    from probes.executors.ray_places import places_of

    places = places_of(nodes, memory_bytes, 4, cards)
    assert [(p.node_id, p.cpus, p.gpus) for p in places] == expected


@needs_ray
def test_real_probes_find_the_same_on_a_cluster_as_here(cluster, zygote_path, tmp_path):
    """Two rungs of two candidates on two workers, with the seed of the local run: equal to the last digit."""
    from tests.probes.test_session import job_of, make_context

    found = {}
    for name in ("process", "ray"):
        (tmp_path / name / "work").mkdir(parents=True)
        prepared = make_context(tmp_path / name, "llama")
        with executor_of(name, worker_command(zygote_path)) as executor:
            executor.start(prepared)
            outcomes_of(executor, [job_of("lora", "lora", stop=4), job_of("ia3", "ia3", stop=4)])
            found[name] = outcomes_of(executor, [job_of("lora", "lora", stop=8), job_of("ia3", "ia3", stop=8)])
    assert found["process"]["lora"].first_step == 4
    for id in ("lora", "ia3"):
        assert measured(found["ray"][id]) == measured(found["process"][id])


def executor_of(name, command):
    from probes.executors.ray import RayExecutor

    return ProcessExecutor(2, command=command) if name == "process" else RayExecutor(workers=2, command=command)


def measured(outcome):
    """What of an outcome is not time or memory."""
    points = [point.model_copy(update={"elapsed_s": None}) for point in outcome.points]
    return outcome.status, outcome.first_step, points, outcome.row_losses, outcome.forgetting, outcome.adapter_bytes
