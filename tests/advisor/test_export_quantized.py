"""train.py on a base in 4 or 8 bits trains what the probes trained there, also from a GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.exporters import NotExpressible
from advisor.exporters.script import training_script
from tests.advisor.test_export_script import assert_trains_as_the_probe
from tests.advisor.tiny_run import Case

pytest.importorskip("bitsandbytes", reason="quantised bases need the extra peft-advisor[quantized]")


def quantized_case(folder: Path, method: str, quantization: str) -> Case:
    case = Case(folder, "llama", method, quantization=quantization)
    case.context = case.context.model_copy(update={"quantization": quantization})
    return case


@pytest.mark.parametrize(("method", "quantization"), [("qlora", "nf4"), ("loftq", "nf4"), ("lora", "int8")])
def test_the_script_trains_exactly_what_the_probe_trained(method, quantization, tmp_path, monkeypatch, capsys):
    case = quantized_case(tmp_path, method, quantization)
    assert_trains_as_the_probe(case, tmp_path, monkeypatch, capsys)


def test_a_gguf_file_is_quantised_from_what_it_was_converted_to(tmp_path, monkeypatch):
    case = quantized_case(tmp_path, "lora", "nf4")
    result = case.result()
    file = tmp_path / "model.gguf"
    in_gguf = result.model.model_copy(update={"source": "gguf file", "location": str(file)})
    converted = tmp_path / "converted"
    monkeypatch.setattr("advisor.exporters.base.model_folder", lambda path: converted)
    with pytest.raises(NotExpressible, match="is not here"):
        training_script(result.model_copy(update={"model": in_gguf}))
    file.write_bytes(b"GGUF")
    source = training_script(result.model_copy(update={"model": in_gguf}))
    assert f'MODEL = "{converted}"' in source
    assert "gguf_file=" not in source
    in_full = case.run.model_copy(update={"quantization": "none"})
    source = training_script(result.model_copy(update={"model": in_gguf, "planned_run": in_full}))
    assert f'MODEL = "{file}"' in source
    assert "gguf_file=Path(MODEL).name" in source
