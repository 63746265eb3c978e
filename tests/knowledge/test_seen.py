"""The shipped matrix: whole, and in accord with what the catalogue claims."""

from __future__ import annotations

import pytest

from knowledge.methods import all_methods
from knowledge.seen import matrix, quantized_columns, seen_on
from tests.tiny import ARCHITECTURES, QUANTIZED

CANDIDATES = [method for method in all_methods().values() if not method.special_purpose]


def test_every_candidate_has_a_fact_for_every_architecture():
    assert set(matrix()) == {method.name for method in CANDIDATES}
    assert all(tuple(row) == (*ARCHITECTURES, *QUANTIZED) for row in matrix().values())


@pytest.mark.parametrize("method", CANDIDATES, ids=lambda method: method.name)
def test_it_works_somewhere_and_claims_hold_wherever_it_does(method):
    working = [facts for facts in matrix()[method.name].values() if facts.works]
    assert working
    claims = method.capabilities
    assert all(facts.merges for facts in working) or not claims.mergeable
    assert all(facts.identity_start for facts in working) or not claims.identity_start
    # PEFT refuses to take IA3 off a quantised base; the session then loads it anew.
    in_full = [facts for column, facts in matrix()[method.name].items() if facts.works and column not in QUANTIZED]
    assert all(facts.restores_base for facts in in_full) or not claims.restores_base


def test_a_refusal_has_a_reason():
    assert all(facts.works or facts.reason for row in matrix().values() for facts in row.values())


def test_an_architecture_that_was_not_tried_is_stood_for_by_one_of_its_task():
    assert quantized_columns() == tuple(QUANTIZED)
    assert seen_on("delora", "gpt2", "causal-lm").works is False
    assert seen_on("delora", "gpt_neox", "causal-lm") == matrix()["delora"]["llama"]
    assert seen_on("delora", "roberta", "sequence-classification") == matrix()["delora"]["bert"]
    assert seen_on("lora", "gemma3_text", "causal-lm") == matrix()["lora"]["gemma3"]
    assert seen_on("x-lora", "llama", "causal-lm") is None
