"""The versions that results are recorded with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, version

VERSIONS_OF = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes", "scikit-learn", "numpy")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on; those not installed are left out."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | _torch_as_built()


def _torch_as_built() -> dict[str, str]:
    """torch's version with the CUDA release it was built for, e.g. '2.9.0+cu128'. PyPI allows its packages no such
    part, so only the module tells of it; reading that takes no import of torch."""
    try:
        module = distribution("torch").locate_file("torch/version.py").read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError):
        return {}
    told = re.search(r"^__version__ = ['\"](.+)['\"]$", module, re.MULTILINE)
    return {"torch": told[1]} if told else {}
