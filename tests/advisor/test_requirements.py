"""`--require`: what is understood, and who is taken out for which reason."""

from __future__ import annotations

import pytest

from advisor.requirements import objection_to, parse_checkable, parse_requirements, without_violators
from knowledge.errors import BadInput
from probes.schema import ProbeOutcome
from tests.advisor.factories import candidate


def reasons(reports, *texts):
    return {r.name: r.reason for r in without_violators(reports, texts) if r.status == "excluded"}


def test_what_forgets_too_much_is_out_with_both_figures():
    reports = [candidate("lora", forgetting=0.08), candidate("oft", forgetting=0.25), candidate("vera", forgetting=0.1)]
    assert reasons(reports, "max-forgetting=0.1") == {"oft": "forgets 0.250 nats per token, over 0.1"}
    assert reasons(reports) == {}


def test_what_was_not_measured_is_out_with_the_reason():
    reports = [
        candidate("lora", forgetting=None, forgetting_note="NotFinite: held-out loss is nan"),
        candidate("oft", forgetting=None),
        candidate("vera", status="eliminated", forgetting=None),
    ]
    found = reasons(reports, "max-forgetting=0.1")
    assert found["lora"] == "its forgetting is unknown: NotFinite: held-out loss is nan"
    assert found["oft"] == found["vera"] == "its forgetting is unknown: no probe of it came to its end"


def test_what_is_over_a_limit_need_not_go_on():
    def objection(*texts, **fields):
        return objection_to(ProbeOutcome(id="lora", status="finished", **fields), texts)

    limit = "max-forgetting=0.1"
    assert objection(limit, forgetting=0.16) == "forgets 0.160 nats per token, over 0.1"
    assert objection(limit, forgetting=0.1) is None
    assert objection(limit) is None  # its report will say why it was not measured
    assert objection("mergeable", forgetting=9.0, adapter_bytes=9_000_000) is None
    assert objection("max-adapter-size=5MB", adapter_bytes=9_000_000) == "its adapter has 9.0 MB, over 5.0 MB"


def test_what_failed_keeps_its_own_reason():
    broken = candidate("lora", None, status="diverged", reason="training loss is nan at step 3")
    assert without_violators([broken], ["max-forgetting=0.1"]) == [broken]


@pytest.mark.parametrize("value", ["much", "-0.1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused_with_what_was_seen(value):
    with pytest.raises(BadInput, match=rf"max-forgetting={value}.*nats per token.*max-forgetting=0.1"):
        parse_requirements([f"max-forgetting={value}"])


def test_an_unknown_requirement_is_told_what_there_is():
    with pytest.raises(BadInput, match=r"Did you mean 'max-forgetting=NATS'"):
        parse_requirements(["max-forgeting"])
    assert parse_requirements(["mergeable", "max-adapter-size=50MB"])[1].limit_bytes == 50_000_000


def test_what_nothing_can_show_is_refused_before_anything_is_trained():
    asked = ["mergeable", "max-forgetting=0.1"]
    assert len(parse_checkable(asked, task="causal-lm", probe=True)) == 2
    with pytest.raises(BadInput, match=r"max-forgetting=0.1 cannot be checked: .* only by probing"):
        parse_checkable(asked, task="causal-lm", probe=False)
    with pytest.raises(BadInput, match="a classifier writes none"):
        parse_checkable(asked, task="sequence-classification", probe=True)
