"""Where the probes of a request run."""

from types import SimpleNamespace

import pytest

from advisor import gather
from advisor.request import make_request
from knowledge.errors import BadInput
from probes.executors import ray
from tests.advisor.factories import result


class Cluster:
    """Stands for a Ray executor on GPUs."""

    device = "cuda"
    workers = 4

    def __init__(self, address, *, workers, memory_bytes):
        self.asked, self.closed = (address, workers, memory_bytes), False
        Cluster.last = self

    def start(self, context):
        pass

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Survey:
    def __init__(self, device, **request):
        self.device = device
        self.request = make_request(model="m", data="d.jsonl", **{"executor": "ray"} | request)


@pytest.fixture(autouse=True)
def cluster(monkeypatch):
    monkeypatch.setattr(ray, "RayExecutor", Cluster)


def device(**settings):
    return result().device.model_copy(update=settings)


def test_probes_share_the_cards_of_a_cluster_by_the_memory_of_the_planned_card():
    planned = device(kind="cuda", planned=True, limit_bytes=20_000_000_000)
    place = gather._on_a_cluster(Survey(planned, ray_address="10.0.0.1:6379", workers=3))
    assert place.device == "cuda"
    assert place.executor.asked == ("10.0.0.1:6379", 3, 20_000_000_000)


@pytest.mark.parametrize(
    ("kind", "cards", "workers", "speed_up"),
    [("cuda", ["0"], 1, 1), ("cuda", ["0", "1"], 4, 2), ("cuda", ["0", "1"], 3, 2), ("mps", None, 1, 1)],
)
def test_a_run_may_be_faster_where_several_probes_shared_what_it_has_alone(monkeypatch, kind, cards, workers, speed_up):
    monkeypatch.setattr(gather, "training_devices", lambda: (kind, cards))
    place = gather._on_this_machine(Survey(device(), executor="process", workers=workers))
    assert (place.device, place.threads, place.speed_up_alone) == (kind, 1, speed_up)


@pytest.mark.parametrize(
    ("asked", "workers", "idle", "threads", "speed_up"),
    [
        (None, 4, 8, 2, 4),
        (None, 3, 8, 2, 4),
        (None, 1, 8, 8, 1),
        (None, 4, 2, 1, 8),
        ("2", 1, 8, 2, 1),
        ("2", 4, 8, 2, 1),
        ("1", 4, 8, 1, 1),
    ],
)
def test_workers_on_a_processor_share_its_idle_cores(monkeypatch, asked, workers, idle, threads, speed_up):
    monkeypatch.setattr(gather, "training_devices", lambda: ("cpu", None))
    monkeypatch.setattr(gather, "cpu_cores", lambda: 8)
    monkeypatch.setattr(gather, "idle_cores", lambda: idle)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    place = gather._on_this_machine(Survey(device(), executor="process", workers=workers))
    assert (place.threads, place.speed_up_alone) == (threads, speed_up)


def test_on_a_cluster_nothing_is_known_of_what_probes_share():
    place = gather._on_a_cluster(Survey(device(kind="cuda", planned=False)))
    assert (place.threads, place.speed_up_alone) == (1, 1)


def test_without_a_planned_card_each_probe_has_a_card_of_its_own():
    place = gather._on_a_cluster(Survey(device(kind="cuda", planned=False)))
    assert place.executor.asked == (None, None, None)


def test_a_cluster_of_gpus_needs_a_card_to_plan_for_where_there_is_none_here():
    with pytest.raises(BadInput, match=r"--gpu .*--vram"):
        gather._on_a_cluster(Survey(device(kind="cpu", planned=False)))
    assert Cluster.last.closed


@pytest.mark.parametrize("trains_on", ["cuda", "cpu"])
def test_the_executor_comes_with_the_device_that_its_workers_train_on_and_is_closed(monkeypatch, tmp_path, trains_on):
    monkeypatch.setattr(Cluster, "device", trains_on)
    survey = Survey(device(kind="cuda", planned=True))
    survey.data, started = SimpleNamespace(save=lambda folder: None), []
    monkeypatch.setattr(gather, "_context", lambda survey, folder, place: place.device)
    monkeypatch.setattr(Cluster, "start", lambda self, context: started.append(context))
    with gather.open_executor(survey, tmp_path) as place:
        assert (place.executor, place.device, started) == (Cluster.last, trains_on, [trains_on])
        assert not Cluster.last.closed
    assert Cluster.last.closed

    def fail(self, context):
        raise OSError("no room")

    monkeypatch.setattr(Cluster, "start", fail)
    with pytest.raises(OSError, match="no room"), gather.open_executor(survey, tmp_path):
        pass
    assert Cluster.last.closed


def test_an_address_is_for_the_ray_executor_alone():
    with pytest.raises(BadInput, match="--executor ray"):
        make_request(model="m", data="d.jsonl", ray_address="10.0.0.1:6379")


@pytest.mark.parametrize(
    ("place", "free_bytes", "workers"),
    [("cpu", 10**12, 4), ("cpu", 16 * 10**9, 2), ("cpu", 10**9, 1), ("mps", 10**12, 1)],
)
def test_without_cuda_there_are_as_many_workers_as_there_is_memory_for(monkeypatch, place, free_bytes, workers):
    survey = Survey(device())
    survey.model = result().model.model_copy(update={"parameters": 1_100_000_000})
    monkeypatch.setattr(gather, "cpu_cores", lambda: 8)
    monkeypatch.setattr(gather, "free_host_bytes", lambda: free_bytes)
    assert gather._workers_without_cuda(survey, place) == workers
