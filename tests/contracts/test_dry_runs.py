"""The estimates that come with the package are what a dry run says, and they are enough for the first answer about a
known model."""

from __future__ import annotations

import pytest

from advisor import recommend
from knowledge import dry_runs
from probes.memory import cache
from probes.memory import estimate as estimating


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVISOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_in_memory", {})


@pytest.fixture
def replayed(monkeypatch):
    """The templates whose replay was asked for."""
    done, summarise = [], estimating.summarise

    def counted(template, *arguments, **options):
        done.append(template)
        return summarise(template, *arguments, **options)

    monkeypatch.setattr(estimating, "summarise", counted)
    return done


def first_answer(model, **options):
    return recommend(model, probe=False, show_progress=False, **options)


@pytest.mark.parametrize(
    ("model", "card"), [("llama", "24GB"), ("Qwen/Qwen3-0.6B", "8GB"), ("mistral", "48GB"), ("smollm-135m", None)]
)
def test_the_first_answer_about_a_known_model_needs_no_dry_run(empty_cache, replayed, model, card):
    found = first_answer(model, vram=card)
    assert not replayed and sum(c.memory is not None for c in found.candidates) >= 8


@pytest.mark.parametrize(("model", "card"), [("smollm-135m", "24GB"), ("gpt2", "16GB"), ("t5", "12GB")])
def test_what_is_stored_is_what_a_dry_run_says(empty_cache, replayed, monkeypatch, model, card):
    stored = {c.name: c.memory for c in first_answer(model, vram=card).candidates if c.memory}
    assert not replayed
    nothing = dry_runs.DryRuns(versions={}, estimates={})
    monkeypatch.setattr(dry_runs, "_stored", lambda: nothing)
    chosen = {"lora", max(stored)}
    fresh = {c.name: c.memory for c in first_answer(model, vram=card, methods=tuple(chosen)).candidates if c.memory}
    assert replayed and set(fresh) == chosen
    assert all(fresh[name] == stored[name] for name in chosen)


def test_under_other_versions_of_the_libraries_nothing_is_stored(monkeypatch):
    stored = dry_runs._stored()
    run = next(iter(stored.estimates))
    assert dry_runs.known_estimate(run, stored.versions)
    assert dry_runs.known_estimate(run, {**stored.versions, "torch": stored.versions["torch"] + "+cu130"})
    assert dry_runs.known_estimate(run, {**stored.versions, "peft": "0.0.1"}) is None
    assert dry_runs.known_estimate("another run", stored.versions) is None
