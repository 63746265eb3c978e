"""Puts a method of the catalogue on a model, takes it off again, saves and reloads what was trained.

The only place that knows how PEFT is called. The base may be on any device and in any precision, quantised
included; PEFT keeps adapter weights in float32 beside a bfloat16 base.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.errors import AdvisorError, BadInput
from knowledge.methods.anchored_lora import as_plain_lora, is_anchored
from knowledge.methods.base import PEFT_TASK_TYPES
from knowledge.new_files import usual_rights
from probes.calibration import Calibration

if TYPE_CHECKING:
    import torch

    from knowledge.methods.base import Method

# Holds what a method without a PEFT adapter has trained; adapters are saved as PEFT does.
TRAINED_FILE = "trained.safetensors"

# A head is an ordinary layer: the rates of methods that want 0.01 and more (C3A, IA3, VeRA) would wreck it.
LARGEST_HEAD_RATE = 1e-3

Batches = Callable[[], Sequence[Mapping[str, Any]]]


class Ineffective(AdvisorError):
    """The method wraps nothing or trains nothing on this model."""


def apply_method(
    model: torch.nn.Module,
    method: Method,
    peft_config: Mapping[str, Any] | None,
    *,
    batches: Batches | None = None,
) -> torch.nn.Module:
    """Wraps `model` (in place, as PEFT does) so that only what the method trains requires gradients.

    `peft_config` is `method.peft_config(...)`, and None for methods that add no adapter. `batches` returns a few
    training batches and is called only by initialisations that read data.
    Raises Ineffective where nothing is left to train, BadInput where a method needs batches and gets none.
    """
    if method.needs_batches and batches is None:
        raise BadInput(f"{method.title} initialises itself from training data: pass `batches`.")
    keep_differentiable(model)
    if peft_config is None:
        method.select_trainable(model)
        wrapped = model
    else:
        import peft

        config = peft.PeftConfig.from_peft_type(**peft_config)
        calibration = None
        if batches and method.needs_batches:
            task = next(task for task, name in PEFT_TASK_TYPES.items() if name == config.task_type)
            calibration = Calibration(batches(), task)
        with _without_peft_chatter():
            method.before_wrapping(model, config, calibration)
            wrapped = peft.get_peft_model(model, config)
            method.after_wrapping(wrapped, calibration)
        train_in_float32(wrapped)
    if trainable_parameters(wrapped) == 0:
        raise Ineffective(
            f"{method.title} trains nothing on this {model.config.model_type} model: its layers may be of a type "
            "that the method passes over in silence. Choose another method."
        )
    return wrapped


def keep_differentiable(model: torch.nn.Module) -> None:
    """Undoes and forbids the packing of 4-bit weights that bitsandbytes does when a model is evaluated on a CPU.

    On processors with AVX512-BF16 the first forward pass in eval mode packs the weights for inference; from then on
    its matrix product passes no gradient back, in training mode either, and says nothing.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
            module.state_dict()  # unpacks the weights


def train_in_float32(model: torch.nn.Module) -> None:
    """Casts what PEFT leaves in the base's half precision: copies of norms and classification heads.

    A norm's weights are near 1, where neighbouring bfloat16 numbers are 0.4-0.8 % apart: the steps of common learning
    rates would be rounded away and nothing would ever train.
    """
    import torch

    for module in model.modules():
        trained = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if next(module.children(), None) is not None:
            continue  # LLaMA-Adapter's wrapper of a whole attention layer, whose base weights stay as they are
        if trained and trained[0].dtype in (torch.bfloat16, torch.float16):
            outside = trained[0].dtype
            module.float()
            module.register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
            module.register_forward_hook(lambda _, __, output, outside=outside: output.to(outside))


@contextmanager
def _without_peft_chatter() -> Any:
    """PEFT warns of what it then puts right by itself: Conv1D's layout, missing model cards, second wraps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\.")
        yield


def remove_method(model: torch.nn.Module) -> torch.nn.Module:
    """The base model without the adapter, all parameters trainable again as after loading.

    Exact where the method's capabilities say that it restores the base. A trained classification head is put back as
    well, which PEFT's own `unload` does not do.
    """
    import peft

    base = model
    if isinstance(model, peft.PeftModel):
        base = model.get_base_model()
        unwrap_heads(base, lambda head: head.original_module)
        if hasattr(type(model.base_model), "unload"):
            base = model.unload()
        elif not model.active_peft_config.is_prompt_learning:  # LLaMA-Adapter: puts the attention modules back
            model.base_model.disable_adapter_layers()
    for parameter in base.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
            parameter.grad = None
    return base


def unwrap_heads(base: torch.nn.Module, chosen: Callable[[Any], torch.nn.Module]) -> None:
    """Puts one of the two that PEFT's wrapper of a trained head holds in its place. PEFT's own unloading and merging
    take a wrapped head that is made of layers for a layer."""
    from peft.utils import ModulesToSaveWrapper

    heads = {name: module for name, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    for name, head in heads.items():
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, chosen(head))


def make_optimizer(model: torch.nn.Module, method: Method, learning_rate: float) -> torch.optim.Optimizer:
    """The method's optimizer over what it trains."""
    settings = {"lr": learning_rate, "weight_decay": method.weight_decay, **method.optimizer_settings}
    return optimizer_of(method.optimizer, model, _parameter_groups(model, learning_rate), settings)


def optimizer_of(spec: str, model: torch.nn.Module, parameters: Any, settings: Mapping[str, Any]) -> Any:
    """The optimizer that 'module:callable' makes.

    Classes of `torch.optim` take the parameters. The factories of `peft.optimizers` take the model, and, where their
    signature asks for them, the class to build on (AdamW) and LoRA's rank and alpha.
    """
    import torch

    module_name, _, name = spec.partition(":")
    factory = getattr(import_module(module_name), name)
    accepted = inspect.signature(factory).parameters
    if "model" not in accepted:
        return factory(parameters, **settings)
    of_model = {"optimizer_cls": torch.optim.AdamW} if "optimizer_cls" in accepted else {}
    of_model |= {key: getattr(model.active_peft_config, key) for key in ("r", "lora_alpha") if key in accepted}
    return factory(model=model, **{**of_model, **settings})


def _parameter_groups(model: torch.nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Adapter and classification head apart: the head's rate stays below LARGEST_HEAD_RATE."""
    from peft.utils import ModulesToSaveWrapper

    wrapped = (module for module in model.modules() if isinstance(module, ModulesToSaveWrapper))
    head = [p for module in wrapped for p in module.parameters() if p.requires_grad]
    in_head = {id(p) for p in head}
    adapter = [p for p in model.parameters() if p.requires_grad and id(p) not in in_head]
    groups = [{"params": adapter}, {"params": head, "lr": min(learning_rate, LARGEST_HEAD_RATE)}]
    return [group for group in groups if group["params"]]


def after_optimizer_step(model: torch.nn.Module, step: int) -> None:
    """To be called after each `optimizer.step()` and before the gradients are cleared; `step` counts from 0.

    AdaLoRA moves its ranks here; other methods have nothing to do.
    """
    update = getattr(getattr(model, "base_model", None), "update_and_allocate", None)
    if update is not None:
        update(step)


def trainable_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapter_bytes(model: torch.nn.Module, method: Method) -> int:
    """Bytes of the tensors that `save_adapter` writes in the end: Delta-LoRA becomes a LoRA of twice the rank on its
    way."""
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in _tensors_to_save(model).values())
    return size_bytes if is_anchored(model) else size_bytes * method.saved_rank_factor


def save_adapter(model: torch.nn.Module, folder: Path) -> None:
    """Writes what was trained as safetensors: PEFT's adapter files, or `trained.safetensors` where there is none."""
    import peft
    from safetensors.torch import save_file

    if is_anchored(model):
        config, tensors = as_plain_lora(model)
        config.save_pretrained(folder)
        save_file(tensors, folder / "adapter_model.safetensors")
        give_usual_rights(folder)
        return
    if isinstance(model, peft.PeftModel):
        with _without_peft_chatter():
            model.save_pretrained(folder, safe_serialization=True)
        give_usual_rights(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in _tensors_to_save(model).items()}
    save_file(tensors, folder / TRAINED_FILE)
    give_usual_rights(folder)


def give_usual_rights(folder: Path) -> None:
    """safetensors writes files that nobody else can read, as a server that runs as another user would have to."""
    for file in folder.glob("*.safetensors"):
        file.chmod(usual_rights())


def load_adapter(base: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Puts what `save_adapter` wrote on a fresh base model, for inference.

    Raises BadInput where the folder holds nothing of the kind, or what belongs to another model.
    """
    import peft
    from safetensors.torch import load_file

    keep_differentiable(base)
    if (folder / "adapter_config.json").exists():
        # AdaLoRA's forward with labels raises on an adapter that was loaded for inference.
        is_adalora = peft.PeftConfig.from_pretrained(folder).peft_type == "ADALORA"
        with _without_peft_chatter():
            return peft.PeftModel.from_pretrained(base, folder, is_trainable=is_adalora)
    if not (folder / TRAINED_FILE).exists():
        raise BadInput(
            f"{folder} holds neither adapter_config.json nor {TRAINED_FILE}: give a folder that a training has saved."
        )
    tensors = load_file(folder / TRAINED_FILE)
    unexpected = base.load_state_dict(tensors, strict=False).unexpected_keys
    if unexpected:
        raise BadInput(
            f"{folder / TRAINED_FILE} is of another model: the base has no {unexpected[0]!r}. Give the model that it "
            "was trained on."
        )
    return base


def _tensors_to_save(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    import peft

    if is_anchored(model):
        return as_plain_lora(model)[1]
    if isinstance(model, peft.PeftModel):
        return peft.get_peft_model_state_dict(model)
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
