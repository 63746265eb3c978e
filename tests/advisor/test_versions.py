"""Results say which build of torch they were made with."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch

from advisor import versions
from knowledge.era import software_era


def test_torch_is_told_as_it_tells_itself():
    assert versions.library_versions()["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("__all__ = ['__version__']\n__version__ = '2.9.0+cu128'\ncuda: str | None = '12.8'\n", "2.9.0+cu128"),
        ("something else", "2.9.0"),
        (None, "2.9.0"),
    ],
)
def test_a_build_for_cuda_is_known_where_the_package_does_not_name_it(module, told, tmp_path, monkeypatch):
    """As packages on PyPI: their versions have no local part."""
    (tmp_path / "torch").mkdir()
    if module is not None:
        (tmp_path / "torch" / "version.py").write_text(module)
    info = tmp_path / "torch-2.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n")
    monkeypatch.setattr(versions, "distribution", lambda name: metadata.PathDistribution(info))
    monkeypatch.setattr(versions, "version", lambda name: "2.9.0")
    found = versions.library_versions()
    assert found["torch"] == told
    assert software_era(found) == f"transformers2-{'cuda12.8' if '+' in told else 'cpu'}"
