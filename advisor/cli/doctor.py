"""`advisor doctor`: what is installed, what is missing, what the device can do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

SCHEMA_VERSION = 1

# Package and what for. The first group is required, the second adds abilities.
REQUIRED = {
    "torch": "training",
    "transformers": "models and tokenizers",
    "peft": "the methods",
    "accelerate": "loading large models",
    "datasets": "hub datasets",
    "gguf": "GGUF models",
    "nvidia-ml-py": "NVIDIA device facts",
    "numpy": "data",
    "pydantic": "records",
    "rich": "terminal output",
    "safetensors": "weights",
    "scikit-learn": "the predictor",
    "typer": "the command line",
}
OPTIONAL = {
    "bitsandbytes": "4-bit and 8-bit bases: pip install 'peft-advisor[quantized]'",
    "ray": "probes on a cluster: pip install 'peft-advisor[ray]'",
    "reasoning-gym": "making the demo data: pip install 'peft-advisor[demo]'",
}


def command(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Check the installation and the device."""
    report = examine()
    if json:
        import json as json_module

        print(json_module.dumps(report, indent=2, allow_nan=False))
    else:
        _show(report)
    if report["missing"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Versions, what is missing, the devices that torch can use, and the folders that are written to."""
    import platform

    required = {name: _version(name) for name in REQUIRED}
    missing = [name for name, version in required.items() if version is None]
    return {
        "schema_version": SCHEMA_VERSION,
        "advisor_version": _version("peft-advisor"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "required": required,
        "optional": {name: _version(name) for name in OPTIONAL},
        "missing": missing,
        "devices": [] if "torch" in missing else _devices(),
        "cache": _cache(),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    from probes.device import detect_all

    return [device.model_dump(mode="json") for device in detect_all()]


def _cache() -> dict[str, Any]:
    """The folder of converted models and the space left where it is or will be."""
    import shutil

    from probes.gguf import cache_folder

    folder = cache_folder()
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return {"folder": str(folder), "free_bytes": shutil.disk_usage(existing).free}


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from advisor.text import bytes_text, clean

    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("advisor", report["advisor_version"] or "not installed as a package", "")
    table.add_row("python", report["python"], Text(report["platform"]))
    for group, purposes in (("required", REQUIRED), ("optional", OPTIONAL)):
        for name, version in report[group].items():
            absent = Text("missing", style="bold red" if group == "required" else "yellow")
            table.add_row(name, version or absent, Text(purposes[name], style="dim"))
    for device in report["devices"]:
        memory = f"{bytes_text(device['total_bytes'])}, {bytes_text(device['free_bytes'])} free"
        table.add_row(device["kind"], memory, Text(clean(device["name"])))
        for note in device["notes"]:
            table.add_row("", "", Text(clean(note), style="dim"))
        table.add_row("", "", Text(f"trains in {', '.join(device['dtypes'])}", style="dim"))
    table.add_row("cache", f"{bytes_text(report['cache']['free_bytes'])} free", Text(clean(report["cache"]["folder"])))
    console.print(table)
    if report["missing"]:
        console.print(f"Missing: pip install {' '.join(report['missing'])}", style="bold red")
