"""Makes result files with the field names of PEFT's method comparison suite, for the tests of importing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def llm_run(
    adapter: dict[str, Any] | None = None,
    experiment: str = "lora/llama-3.2-3B-rank32",
    accuracy: float = 0.49,
    optimizer: str = "AdamW",
    created_at: str = "2026-07-15T05:41:18+00:00",
    torch: str = "2.13.0+cu130",
    transformers: str = "5.13.1",
    losses: tuple[float, ...] = (0.98, 0.7, 0.65, 0.6),
) -> dict[str, Any]:
    """A MetaMathQA run with one evaluation every 250 steps."""
    default = {"peft_type": "LORA", "r": 32, "target_modules": ["v_proj", "q_proj"], "init_lora_weights": True}
    evaluations = [
        {
            "step": 250 * (i + 1),
            "valid accuracy": 0.3 + 0.02 * i,
            "train loss": loss,
            "train time": 30.0,
            "eval time": 12.0,
        }
        for i, loss in enumerate(losses)
    ]
    last_step = 250 * len(losses)
    final = {"step": last_step, "test accuracy": accuracy, "train loss": losses[-1], "forgetting": 0.05}
    return {
        "run_info": {
            "created_at": created_at,
            "experiment_name": experiment,
            "train_config": {
                "model_id": "meta-llama/Llama-3.2-3B",
                "dtype": "bfloat16",
                "max_seq_length": 768,
                "batch_size": 4,
                "max_steps": last_step,
                "seed": 0,
                "optimizer_type": optimizer,
                "optimizer_kwargs": {"lr": 1e-4, "weight_decay": 0.1},
                "lr_scheduler": "cosine",
                "use_gc": False,
            },
            "peft_config": default if adapter is None else adapter,
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": 14_397_338_969,
            "accelerator_memory_max": 22_292_725_760,
            "train_time": 941.95899,
            "file_size": 36_715_216,
            "num_trainable_params": 9_175_040,
            "num_total_params": 3_221_924_864,
            "status": "success",
            "metrics": [*evaluations, final],
        },
        "meta_info": {
            "package_info": {
                "transformers-version": transformers,
                "torch-version": torch,
                "peft-version": "0.19.2",
                "torch-commit-hash": None,
            },
            "system_info": {"accelerator": "NVIDIA L40S"},
        },
    }


def image_run(similarity: float = 0.7, drift: float = 0.26) -> dict[str, Any]:
    """An image-generation run."""
    content = llm_run(experiment="oft/flux2-klein-default", adapter={"peft_type": "OFT", "r": 0})
    content["run_info"]["train_config"] |= {"model_id": "black-forest-labs/FLUX.2-klein-base-4B", "lr_scheduler": None}
    for entry in content["train_info"]["metrics"][:-1]:
        entry["valid dino_similarity"] = entry.pop("valid accuracy")
    last = content["train_info"]["metrics"][-1]
    for name in ("test accuracy", "forgetting"):
        del last[name]
    last |= {"test dino_similarity": similarity, "drift": drift}
    return content


def write(folder: Path, **contents: dict[str, Any]) -> Path:
    """Writes each run to `folder`/NAME.json and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
