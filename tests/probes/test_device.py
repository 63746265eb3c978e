"""Device detection through the real NVML binding, against a stub of the driver's library that is compiled here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from knowledge.errors import BadInput
from probes import device
from probes.device import CUDA_CONTEXT_BYTES, detect, detect_all, free_host_bytes, training_devices
from probes.nvml import Gpu, NvmlReport
from probes.schema import ProcessReport

SCRIPT = """
import json, os
os.environ["STUB_OWN_PID"] = str(os.getpid())
from probes.nvml import read_gpus
report = read_gpus()
print(json.dumps({
    "names": [gpu.name for gpu in report.gpus],
    "total_bytes": [gpu.total_bytes for gpu in report.gpus],
    "free_bytes": [gpu.free_bytes for gpu in report.gpus],
    "processes": [[[p.pid, p.name, p.used_bytes] for p in gpu.processes] for gpu in report.gpus],
    "driver": report.driver,
    "fault": report.fault,
}))
"""


MIG = "NVIDIA A100-SXM4-80GB MIG"
CHOICE = """
import json, sys, torch
from types import SimpleNamespace
cards = [SimpleNamespace(name="by torch", major=8, uuid=uuid) for uuid in sys.argv[1:]]
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: len(cards)
torch.cuda.get_device_properties = cards.__getitem__
torch.cuda.mem_get_info = lambda index: (10**9 * (index + 1), 80 * 10**9)
from probes.device import detect, training_devices
found = detect()
print(json.dumps([found.name, found.index, found.free_bytes, training_devices()[1], found.notes]))
"""


@pytest.fixture(scope="module")
def stub_folder(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent / "stub_nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture
def run_with_stub(stub_folder):
    """What a script prints as JSON in a fresh process that finds the stub where it looks for the driver's library."""

    def run(script, mode, *arguments, visible=None):
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        environment |= {"LD_LIBRARY_PATH": str(stub_folder), "STUB_NVML": mode}
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


@pytest.fixture
def read_with_stub(run_with_stub):
    return lambda mode, visible=None: run_with_stub(SCRIPT, mode, visible=visible)


def test_two_gpus_of_which_one_is_busy(read_with_stub):
    report = read_with_stub("two")
    assert report["names"] == ["NVIDIA RTX 4090", "NVIDIA A100-SXM4-80GB"]
    assert report["total_bytes"] == [25757220864, 85899345920] and report["free_bytes"] == [25000000000, 40000000000]
    assert report["driver"] == "575.57.08" and report["fault"] is None
    assert report["processes"] == [[], [[4242, "/usr/bin/python3", 10**9], [4343, "unknown", None]]], (
        "the own process is left out, a name or size that may not be read is unknown"
    )


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["NVIDIA A100-SXM4-80GB"]),
        ("1,0", ["NVIDIA A100-SXM4-80GB", "NVIDIA RTX 4090"]),
        ("GPU-1111", ["NVIDIA RTX 4090"]),
        ("GPU-", []),
        ("0,7,1", ["NVIDIA RTX 4090"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_users_choice_of_gpus_is_followed_as_cuda_does(read_with_stub, visible, names):
    assert read_with_stub("two", visible)["names"] == names


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A100-SXM4-80GB MIG 3g.40gb", "NVIDIA A100-SXM4-80GB MIG 1g.10gb"]),
        ("MIG-44444444-dddd", ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"]),
        ("MIG-unknown", []),
    ],
)
def test_of_a_gpu_in_mig_mode_the_instances_count(read_with_stub, visible, names):
    report = read_with_stub("mig", visible)
    assert report["names"] == names
    assert all(size < 85899345920 for size in report["total_bytes"])


def test_a_lost_gpu_does_not_hide_the_other(read_with_stub):
    report = read_with_stub("lost")
    assert report["names"] == ["NVIDIA A100-SXM4-80GB"] and report["fault"] == "GPU is lost"


@pytest.mark.parametrize(("mode", "fault"), [("none", None), ("old", "RM has detected an NVML/RM version mismatch.")])
def test_a_driver_that_cannot_help_is_no_error(read_with_stub, mode, fault):
    report = read_with_stub(mode)
    assert (report["names"], report["fault"]) == ([], fault)


@pytest.mark.parametrize(
    ("mode", "uuids", "visible", "expected", "note"),
    [
        # CUDA numbers the cards the other way round than NVML, as it may.
        ("two", "22222222 11111111", None, ["NVIDIA A100-SXM4-80GB", 0, 40 * 10**9, ["0"]], "other process(es) use it"),
        ("two", "11111111", "GPU-1111", ["NVIDIA RTX 4090", 0, 25 * 10**9, ["GPU-1111"]], ""),
        ("lost", "11111111 22222222", None, ["NVIDIA A100-SXM4-80GB", 1, 40 * 10**9, ["1"]], "NVML: GPU is lost"),
        ("mig", "44444444", "MIG-44444444-dddd", [f"{MIG} 1g.10gb", 0, 10**10, ["MIG-44444444-dddd"]], ""),
        ("old", "11111111 22222222", None, ["by torch", 1, 2 * 10**9, ["1"]], "version mismatch"),
    ],
    ids=["more free memory", "the user's choice", "one is lost", "a MIG instance", "NVML is broken"],
)
def test_the_right_device_is_chosen(run_with_stub, mode, uuids, visible, expected, note):
    *found, notes = run_with_stub(CHOICE, mode, *uuids.split(), visible=visible)
    assert found == expected
    assert note in "".join(notes) and bool(note) == bool(notes)


A100 = Gpu("GPU-22222222-bbbb", "NVIDIA A100", 80 * 10**9, 30 * 10**9, (ProcessReport(pid=1, name="x", used_bytes=5),))
T4 = Gpu("GPU-11111111-aaaa", "Tesla T4", 16 * 10**9, 15 * 10**9, ())


@pytest.fixture
def two_cuda_devices(monkeypatch):
    """torch as it is on a machine with a T4 and an A100, in the order in which NVML does not list them."""
    import torch

    properties = [
        SimpleNamespace(name="Tesla T4", major=7, uuid="11111111-aaaa"),
        SimpleNamespace(name="A100", major=8, uuid="22222222-bbbb"),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (7 * 10**9, 8 * 10**9))


def test_the_gpu_with_the_most_free_memory_is_chosen(two_cuda_devices, monkeypatch):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport((A100, T4), "575"))
    first, second = detect_all()
    assert (first.name, first.index, first.dtypes[0]) == ("Tesla T4", 0, "float16")
    assert (second.name, second.index, second.dtypes[0]) == ("NVIDIA A100", 1, "bfloat16")
    assert second.processes and "timings are not reliable" in second.notes[0] and not first.notes
    assert detect() == second and second.total_bytes == 80 * 10**9
    assert second.limit_bytes == 80 * 10**9 - CUDA_CONTEXT_BYTES


@pytest.mark.parametrize(
    ("free_bytes", "taken"), [(77 * 10**9, ""), (66 * 10**9, "12.5 GB of its memory are taken by others")]
)
def test_what_the_driver_keeps_and_others_hold_is_not_for_a_run(cuda_devices, monkeypatch, free_bytes, taken):
    """A display, or what runs in another container, is no process that NVML tells of."""
    import torch

    cuda_devices(gpu("a", free_bytes=free_bytes))
    offered = SimpleNamespace(name="A100", major=8, uuid="a", total_memory=78_500_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: offered)
    found = detect()
    assert found.total_bytes == 80 * 10**9
    assert found.limit_bytes == 78_500_000_000 - CUDA_CONTEXT_BYTES
    assert found.taken.startswith(taken) and bool(found.taken) == bool(taken) == bool(found.notes)


def test_without_nvml_torch_answers(two_cuda_devices, monkeypatch):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport(fault="Driver/library version mismatch"))
    first, _ = detect_all()
    assert (first.name, first.free_bytes, first.total_bytes) == ("Tesla T4", 7 * 10**9, 8 * 10**9)
    assert first.notes == ("NVML: Driver/library version mismatch",)


def gpu(uuid, name="NVIDIA A100", free_bytes=75 * 10**9, busy=False):
    return Gpu(
        uuid, name, 80 * 10**9, free_bytes, (ProcessReport(pid=1, name="x", used_bytes=5 * 10**9),) if busy else ()
    )


@pytest.fixture
def cuda_devices(monkeypatch):
    """Makes torch and NVML agree on these GPUs, under this CUDA_VISIBLE_DEVICES."""
    import torch

    def make(*gpus, visible=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        properties = [SimpleNamespace(name=gpu.name, major=8, uuid=gpu.uuid) for gpu in gpus]
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
        monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport(tuple(gpus), "575"))
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([gpu("a"), gpu("b"), gpu("c")], ["0", "1", "2"]),
        ([gpu("a", free_bytes=76 * 10**9), gpu("b", busy=True), gpu("c")], ["0", "2"]),
        ([gpu("a", busy=True, free_bytes=60 * 10**9), gpu("b", busy=True, free_bytes=58 * 10**9)], ["0", "1"]),
        ([gpu("a", free_bytes=20 * 10**9), gpu("b")], ["1"]),
        ([gpu("a", name="NVIDIA H100", free_bytes=79 * 10**9), gpu("b"), gpu("c")], ["0"]),
    ],
    ids=["all alike", "one busy", "all busy", "one nearly full", "another model"],
)
def test_a_race_runs_on_the_best_gpu_and_those_like_it(cuda_devices, gpus, expected):
    cuda_devices(*gpus)
    assert training_devices() == ("cuda", expected)


@pytest.mark.parametrize("visible", ["3,1", " 3 , 1", "GPU-abcd,MIG-3333"])
def test_workers_see_gpus_that_the_user_chose(cuda_devices, visible):
    cuda_devices(gpu("a"), gpu("b"), visible=visible)
    assert training_devices() == ("cuda", [entry.strip() for entry in visible.split(",")]), "not 0 and 1"


@pytest.fixture
def no_torch_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_cpu_says_what_it_has(no_torch_gpu, monkeypatch):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport(fault="NVML Shared Library Not Found"))
    [cpu] = detect_all()
    assert cpu.kind == "cpu" and "core(s)" in cpu.name
    assert 0 < cpu.free_bytes <= cpu.total_bytes <= psutil.virtual_memory().total
    assert cpu.notes[0] == "no GPU found: probes run on the processor"


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (NvmlReport((A100,), "575"), "built without CUDA"),
        (NvmlReport(fault="RM has detected an NVML/RM version mismatch."), "version mismatch"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_not_passed_over_in_silence(no_torch_gpu, monkeypatch, report, words):
    monkeypatch.setattr(device, "read_gpus", lambda: report)
    assert words in detect().notes[0]


def test_without_a_gpu_there_is_nothing_to_spread_workers_over(no_torch_gpu, monkeypatch):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport())
    assert training_devices() == ("cpu", None)


def test_hidden_gpus_are_named_as_hidden(no_torch_gpu, monkeypatch):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport(driver="575"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in detect().notes[0]


def test_a_containers_limits_are_respected(no_torch_gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport())
    monkeypatch.setattr(device, "CGROUP_ROOT", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**28}\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    cpu = detect()
    assert cpu.total_bytes == cpu.limit_bytes == 2**30 and cpu.free_bytes <= 2**30 - 2**28
    assert cpu.name.endswith("1 core(s)") and "1.1 GB by the container" in cpu.notes[-1]
    (tmp_path / "memory.max").write_text("max\n")
    assert detect().total_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("50000", 1), ("-1", 64)])
def test_the_processors_of_an_older_container_are_counted_too(monkeypatch, tmp_path, quota, cores):
    """By version 1 of control groups, as Docker still has it on many a cluster."""
    monkeypatch.setattr(device, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert device.cpu_cores() == cores


@pytest.mark.parametrize(
    ("own_cores", "cores", "busy_percent", "idle"),
    [(4, 4, 0.0, 4), (4, 4, 2.0, 4), (4, 4, 55.0, 2), (4, 4, 100.0, 1), (2, 64, 0.0, 2), (2, 64, 50.0, 2)],
)
def test_idle_cores_are_those_that_are_not_busy_and_no_more_than_a_container_has(
    own_cores, cores, busy_percent, idle, monkeypatch
):
    monkeypatch.setattr(device, "cpu_cores", lambda: own_cores)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: busy_percent)
    assert device.idle_cores() == idle


@pytest.mark.parametrize(
    ("limit_file", "used_file", "stat_file", "prefix"),
    [
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    ],
)
def test_of_a_containers_memory_that_is_free_which_no_process_holds(
    monkeypatch, tmp_path, limit_file, used_file, stat_file, prefix
):
    """The files that it has read lately make room when they have to, so that they are not in use."""
    monkeypatch.setattr(device, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 8 * 2**30})())
    assert free_host_bytes() == 8 * 2**30
    (tmp_path / "memory").mkdir()
    (tmp_path / limit_file).write_text(f"{4 * 2**30}\n")
    (tmp_path / used_file).write_text(f"{3 * 2**30}\n")
    assert free_host_bytes() == 2**30
    own = "active_file 1\ninactive_file 1\n" if prefix else ""  # without the groups below
    counts = f"anon {2**29}\n{own}{prefix}active_file {2**30}\n{prefix}inactive_file {2**29}\n"
    (tmp_path / stat_file).write_text(counts)
    assert free_host_bytes() == 2.5 * 2**30
    (tmp_path / used_file).write_text(f"{6 * 2**30}\n")  # as while a limit is being lowered
    assert free_host_bytes() == 0
    (tmp_path / limit_file).write_text(f"{2**60}\n")  # above what the machine has
    assert free_host_bytes() == 8 * 2**30


def test_apple_machines_share_memory(no_torch_gpu, monkeypatch):
    import torch

    monkeypatch.setattr(device, "read_gpus", lambda: NvmlReport())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 11 * 10**9)
    apple = detect()
    assert apple.kind == "mps" and apple.total_bytes == 11 * 10**9 and "shared" in apple.notes[0]


def test_another_card_can_be_planned_for():
    by_size, by_name = detect(vram="24GB"), detect(gpu="RTX 4090")
    assert by_size.planned and by_name.planned
    assert by_size.limit_bytes == 24 * 10**9 and by_name.limit_bytes < 24564 * 2**20 - CUDA_CONTEXT_BYTES
    assert by_name.dtypes[0] == "bfloat16" and detect(gpu="T4").dtypes[0] == "float16"
    for options in ({"vram": "plenty"}, {"gpu": "Voodoo 2"}):
        with pytest.raises(BadInput):
            detect(**options)
