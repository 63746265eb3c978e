"""What every exporter promises: whole files in a stable form, refusals with a way out, nobody's file lost."""

from __future__ import annotations

import json
import os
import stat

import pytest

from advisor.exporters import NotExpressible, all_exporters, get_exporter
from advisor.exporters.base import canonical
from advisor.files import MANIFEST, write_text
from knowledge.errors import BadInput
from tests.advisor.factories import LORA_CONFIG, candidate, of_chats, result

EXPORTERS = sorted(all_exporters())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_same_result_gives_the_same_bytes(name, tmp_path):
    exporter, recommendation = get_exporter(name), of_chats(result())
    written = exporter.export(tmp_path / "a", recommendation)
    assert exporter.title
    assert written
    assert all(path.is_file() and path.stat().st_size for path in written)
    exporter.export(tmp_path / "b", recommendation)
    exporter.export(tmp_path / "a", recommendation)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("name", EXPORTERS)
def test_sets_are_written_in_order(name, tmp_path):
    texts = []
    for folder, targets in (("a", {"v_proj", "q_proj", "k_proj"}), ("b", {"k_proj", "v_proj", "q_proj"})):
        pick = candidate(peft_config={**LORA_CONFIG, "target_modules": targets})
        get_exporter(name).export(tmp_path / folder, of_chats(result([pick])))
        texts.append(contents(tmp_path / folder))
    assert texts[0] == texts[1]
    assert any(b"k_proj" in text for text in texts[0].values())


@pytest.mark.parametrize("name", EXPORTERS)
def test_without_a_recommendation_there_is_nothing_to_export(name, tmp_path):
    with pytest.raises(BadInput, match="no candidate had a valid result"):
        get_exporter(name).export(tmp_path, result([candidate(status="diverged")]))
    assert not contents(tmp_path)


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_file_of_the_users_is_kept(name, tmp_path, caplog):
    written = get_exporter(name).export(tmp_path, of_chats(result()))
    edited = written[0]
    edited.write_text("my own words")
    get_exporter(name).export(tmp_path, of_chats(result()))
    kept = edited.with_name(f"{edited.name}.1.bak")
    assert kept.read_text() == "my own words"
    assert kept.name in caplog.text
    assert edited.read_text() != "my own words"


def test_an_unknown_target_is_answered_with_the_near_one():
    with pytest.raises(BadInput, match="Did you mean 'script'"):
        get_exporter("scrip")


def test_the_adapter_config_loads_with_peft_and_holds_no_more_than_what_is_set(tmp_path):
    import peft

    [path] = get_exporter("peft").export(tmp_path, result())
    loaded = peft.PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, peft.LoraConfig)
    assert (loaded.r, loaded.lora_alpha, set(loaded.target_modules)) == (32, 64, {"q_proj", "v_proj"})
    assert set(json.loads(path.read_text())) == {*LORA_CONFIG, "base_model_name_or_path"}


def test_no_adapter_means_no_adapter_config(tmp_path):
    with pytest.raises(NotExpressible) as refused:
        get_exporter("peft").export(tmp_path, result([candidate("full", peft_type=None, peft_config=None)]))
    assert refused.value.alternative


def test_settings_that_json_cannot_hold_are_refused():
    with pytest.raises(NotExpressible, match="layers"):
        canonical({"peft_type": "LORA", "layers": object()})
    with pytest.raises(NotExpressible, match="alpha"):
        canonical({"peft_type": "LORA", "alpha": float("nan")})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "a.txt"]


def test_files_get_the_usual_rights(tmp_path):
    mask = os.umask(0o022)
    try:
        assert stat.S_IMODE(write_text(tmp_path / "a", "x").stat().st_mode) == 0o644
        assert stat.S_IMODE(write_text(tmp_path / "b", "x", executable=True).stat().st_mode) == 0o755
    finally:
        os.umask(mask)
