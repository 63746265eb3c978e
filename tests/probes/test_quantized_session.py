"""Probes on a base in 4 or 8 bits: one loaded base serves them too, and what cannot be taken off it costs a load."""

import pytest

from tests.probes.test_session import job_of, make_context, run

pytest.importorskip("bitsandbytes", reason="quantised bases need the extra peft-advisor[quantized]")


@pytest.fixture(scope="module")
def plain_context(tmp_path_factory):
    return make_context(tmp_path_factory.mktemp("quantized"), "llama")


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_methods_are_probed_on_a_quantised_base_as_on_any_other(plain_context, quantization, monkeypatch):
    from probes import source
    from probes.session import Session

    loads = []
    monkeypatch.setattr(source, "load_model", lambda *a, real=source.load_model, **k: loads.append(1) or real(*a, **k))
    session = Session(plain_context.model_copy(update={"quantization": quantization}))
    untuned = session.baseline().eval_loss
    outcomes = {name: run(session, job_of(name, f"{quantization}-{name}"))[0] for name in ("qlora", "loftq", "ia3")}
    assert len(loads) == 1
    again, _, _ = run(session, job_of("qlora", f"{quantization}-again"))
    assert len(loads) == 2  # PEFT refuses to take IA3 off
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    assert outcomes["qlora"].points[-1].eval_loss < untuned
    assert [p.eval_loss for p in again.points] == [p.eval_loss for p in outcomes["qlora"].points]
