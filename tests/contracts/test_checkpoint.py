"""Every method that claims to continue from a checkpoint continues as if it had never stopped."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knowledge.methods import all_methods
from probes import adapters, checkpoint
from probes.shape import model_shape
from tests.probes.runs import Run
from tests.tiny import tiny_model

SHAPE = model_shape(tiny_model("llama", trained=False), "causal-lm")
CANDIDATES = [name for name, method in all_methods().items() if method.unsupported_reason(SHAPE) is None]


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_continued_probe_equals_an_uninterrupted_one(name, tmp_path):
    whole = Run("llama", name, tmp_path)
    uninterrupted = whole.to(8)
    first = Run("llama", name, tmp_path)
    start = first.to(4)
    if not checkpoint.supported(first.model, first.optimizer):
        pytest.skip("starts over instead")
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    second = Run("llama", name, tmp_path)
    second.progress = checkpoint.load(tmp_path / "probe", second.model, second.optimizer)
    assert second.progress.step == 4
    assert start + second.to(8) == pytest.approx(uninterrupted, abs=1e-6)


def test_what_an_optimizer_keeps_under_names_comes_to_the_device_of_the_parameters(tmp_path):
    """PyTorch moves what it finds under a parameter; LoRA-FA keeps its moments under the names of layers."""
    first = Run("llama", "lora-fa", tmp_path)
    first.to(4)
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    second, given = Run("llama", "lora-fa", tmp_path), {}
    second.model.to("meta")  # stands for a card
    second.optimizer.load_state_dict = given.update
    checkpoint.load(tmp_path / "probe", second.model, second.optimizer)
    kept = [value for state in given["state"].values() for value in state.values() if torch.is_tensor(value)]
    assert {value.device.type for value in kept if value.ndim} == {"meta"}


def test_the_scale_of_float16_is_a_part_of_it(tmp_path):
    whole, first, second = (Run("llama", "lora", tmp_path, dtype="float16") for _ in range(3))
    for run in (whole, first):
        run.progress.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**36).state_dict()
    uninterrupted = whole.to(12)
    start = first.to(4)
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    second.progress = checkpoint.load(tmp_path / "probe", second.model, second.optimizer)
    assert second.progress.loss_scaler["scale"] == 2.0**32  # four steps were left out
    assert start + second.to(12) == uninterrupted


@pytest.mark.parametrize(("name", "cut"), [("adalora", 6), ("adalora", 10), ("delta-lora", 12)])
def test_what_a_method_keeps_beside_its_weights_goes_on_too(name, cut, tmp_path, monkeypatch):
    """Of AdaLoRA before and after its last pruning, of Delta-LoRA after its warm-up, saved as it would be served."""
    whole, first, second = (Run("llama", name, tmp_path, steps=20) for _ in range(3))
    if name == "adalora":  # its schedule is a share of runs that are far longer than this one
        for run in (whole, first, second):
            config = run.model.active_peft_config
            config.tinit, config.tfinal, config.target_r = 2, 12, 1
            run.model.base_model.rankallocator.target_bgt //= 2
    whole.to(16)
    first.to(cut)
    assert checkpoint.supported(first.model, first.optimizer)
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    second.progress = checkpoint.load(tmp_path / "probe", second.model, second.optimizer)
    second.to(16)
    for run, folder in ((whole, "whole"), (second, "second")):
        adapters.save_adapter(run.model, tmp_path / folder)
    saved = [load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("whole", "second")]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][key], saved[1][key]) for key in saved[0])


def test_a_checkpoint_of_another_method_is_not_taken(tmp_path):
    lora, miss = Run("llama", "lora", tmp_path), Run("llama", "miss", tmp_path)
    lora.to(1)
    checkpoint.save(tmp_path / "probe", lora.model, lora.optimizer, lora.progress)
    assert checkpoint.load(tmp_path / "probe", miss.model, miss.optimizer) is None
    assert checkpoint.load(tmp_path / "nothing", lora.model, lora.optimizer) is None


def test_a_checkpoint_of_other_shapes_is_not_taken_either(tmp_path):
    """As a version with other settings of the method leaves it: a vector would fit into every matrix."""
    written, other = Run("gpt2", "bitfit", tmp_path), Run("gpt2", "bitfit", tmp_path)
    written.to(1)
    checkpoint.save(tmp_path / "probe", written.model, written.optimizer, written.progress)
    name, parameter = next((n, p) for n, p in other.model.named_parameters() if p.requires_grad)
    other.model.get_submodule(name.rpartition(".")[0]).bias = torch.nn.Parameter(torch.zeros(2, *parameter.shape))
    assert checkpoint.load(tmp_path / "probe", other.model, other.optimizer) is None


def _cut(path: Path, kept_bytes: int) -> None:
    """As a power cut leaves it; a positive number keeps the beginning, a negative one drops so much of the end."""
    path.write_bytes(path.read_bytes()[:kept_bytes])


def _without(path: Path, key: str) -> None:
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    save_file(load_file(path), path, metadata={name: text for name, text in metadata.items() if name != key})


def _with(path: Path, key: str, text: str) -> None:
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    save_file(load_file(path), path, metadata=metadata | {key: text})


DAMAGES = {
    "empty": lambda path: _cut(path, 0),
    "cut in its header": lambda path: _cut(path, 100),
    "cut in its tensors": lambda path: _cut(path, -1),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no metadata at all": lambda path: save_file(load_file(path), path),
    "no progress": lambda path: _without(path, "progress"),
    "no keys of the optimizer": lambda path: _without(path, "state_keys"),
    "keys of another optimizer": lambda path: _with(path, "state_keys", "[0]"),
    "fewer states than tensors": lambda path: _with(path, "state_numbers", "[]"),
    "progress that is no JSON": lambda path: _with(path, "progress", "{"),
    "progress of another version": lambda path: _with(path, "progress", '{"steps_done": 1}'),
}


# Of what the optimizer keeps: no power cut leaves such a file.
UNSEEN_IN_THE_HEADER = ("no keys of the optimizer", "keys of another optimizer", "fewer states than tensors")


@pytest.mark.parametrize("damage", DAMAGES)
def test_from_a_checkpoint_that_cannot_be_read_the_probe_starts_over_untouched(damage, tmp_path):
    first, second = Run("llama", "lora", tmp_path), Run("llama", "lora", tmp_path)
    first.to(2)
    checkpoint.save(tmp_path / "probe", first.model, first.optimizer, first.progress)
    assert checkpoint.is_readable(tmp_path / "probe") and not checkpoint.is_readable(tmp_path)
    DAMAGES[damage](tmp_path / "probe" / checkpoint.FILE)
    assert checkpoint.is_readable(tmp_path / "probe") is (damage in UNSEEN_IN_THE_HEADER)
    before = {name: value.clone() for name, value in second.model.state_dict().items()}
    random = torch.get_rng_state()
    assert checkpoint.load(tmp_path / "probe", second.model, second.optimizer) is None
    assert all(torch.equal(value, before[name]) for name, value in second.model.state_dict().items())
    assert not second.optimizer.state_dict()["state"]
    assert torch.equal(torch.get_rng_state(), random)


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_previous_one(tmp_path, monkeypatch):
    run, done, replace = Run("llama", "lora", tmp_path), [], Path.replace
    run.to(1)
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("moved"), replace(self, to)))
    checkpoint.save(tmp_path / "probe", run.model, run.optimizer, run.progress)
    assert done == [(tmp_path / "probe" / checkpoint.FILE).stat().st_ino, "moved"]


def test_what_a_killed_process_left_of_one_makes_room_for_the_next(tmp_path):
    run, folder = Run("llama", "lora", tmp_path), tmp_path / "probe"
    folder.mkdir()
    (folder / "checkpoint.1.tmp").write_bytes(b"half of it")
    checkpoint.save(folder, run.model, run.optimizer, run.progress)
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]


def test_a_disk_that_takes_no_checkpoint_keeps_the_previous_one_and_no_half_of_it(tmp_path, monkeypatch):
    run = Run("llama", "lora", tmp_path)
    run.to(1)
    checkpoint.save(tmp_path / "probe", run.model, run.optimizer, run.progress)

    def refuse(file):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    run.to(2)
    with pytest.raises(OSError, match=r"cannot be written: No space left"):
        checkpoint.save(tmp_path / "probe", run.model, run.optimizer, run.progress)
    assert [path.name for path in (tmp_path / "probe").iterdir()] == [checkpoint.FILE]
    assert checkpoint.load(tmp_path / "probe", run.model, run.optimizer).step == 1


def test_large_runs_start_over_instead_of_writing_gigabytes(tmp_path, monkeypatch):
    run = Run("llama", "full", tmp_path)
    run.to(1)
    assert checkpoint.supported(run.model, run.optimizer)
    weights = sum(p.numel() * 4 for p in tiny_model().parameters())
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 3 * weights - 1)
    assert not checkpoint.supported(run.model, run.optimizer)
