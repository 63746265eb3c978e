"""The versions that results are recorded with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

VERSIONS_OF = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes", "scikit-learn", "numpy")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on; those not installed are left out."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
