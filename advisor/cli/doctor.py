"""`advisor doctor`: what is installed, what is missing, what the device can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SCHEMA_VERSION = 1
DISTRIBUTION = "peft-advisor"
EXTRAS = {
    "quantized": "4-bit and 8-bit bases",
    "images": "memory of image generators",
    "ray": "races on a Ray cluster",
    "demo": "making the example data",
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
    if report["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Versions against what the package asks for, the devices that torch can use, and where converted models go.

    `problems` are required packages that are missing or too old, as requirements that pip understands.
    """
    import platform
    from importlib.metadata import requires, version

    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    packages = [_check(r, None) for r in requirements if r.marker is None]
    for extra in EXTRAS:
        packages += [_check(r, extra) for r in requirements if r.marker and _belongs_to(r, extra)]
    problems = [p["requirement"] for p in packages if p["extra"] is None and p["state"] != "ok"]
    return {
        "schema_version": SCHEMA_VERSION,
        "advisor_version": version(DISTRIBUTION),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "problems": problems,
        "devices": _devices(),
        "cache": _cache(),
    }


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    assert requirement.marker is not None
    return not requirement.marker.evaluate({"extra": ""}) and requirement.marker.evaluate({"extra": extra})


def _check(requirement: Requirement, extra: str | None) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        installed = None
    state = "missing" if installed is None else "ok"
    if installed and not requirement.specifier.contains(installed, prereleases=True):
        state = "wrong version"
    return {
        "name": requirement.name,
        "requirement": f"{requirement.name}{requirement.specifier}",
        "installed": installed,
        "state": state,
        "extra": extra,
    }


def _devices() -> list[dict[str, Any]]:
    from probes.device import detect_all

    try:
        found = detect_all()
    except ImportError:  # what is missing is among the problems
        return []
    return [device.model_dump(mode="json") for device in found]


def _cache() -> dict[str, Any]:
    """The folder of converted models and the space left where it is or will be."""
    import shutil

    from probes.cache_folder import cache_folder

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
    table.add_row("advisor", report["advisor_version"], Text(f"Python {report['python']}, {report['platform']}"))
    for package in report["packages"]:
        ok, extra = package["state"] == "ok", package["extra"]
        state = " ".join(filter(None, ("" if ok else package["state"], package["installed"])))
        purpose = f"{EXTRAS[extra]}: pip install '{DISTRIBUTION}[{extra}]'" if extra else package["requirement"]
        style = "" if ok else "yellow" if extra else "bold red"
        table.add_row(package["name"], Text(state, style=style), Text(purpose, style="dim"))
    for device in report["devices"]:
        memory = f"{bytes_text(device['total_bytes'])}, {bytes_text(device['free_bytes'])} free"
        table.add_row(device["kind"], memory, Text(clean(device["name"])))
        table.add_row("", "", Text(f"trains in {', '.join(device['dtypes'])}", style="dim"))
        for note in device["notes"]:
            table.add_row("", "", Text(clean(note), style="dim"))
    table.add_row("cache", f"{bytes_text(report['cache']['free_bytes'])} free", Text(clean(report["cache"]["folder"])))
    console.print(table)
    if report["problems"]:
        wanted = " ".join(f"'{problem}'" for problem in report["problems"])
        console.print(Text(f"To repair: pip install {wanted}", style="bold red"))
