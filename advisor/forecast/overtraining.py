"""Has a run gone on for too long? Its held-out loss was lower on the way than it is."""

from __future__ import annotations

from knowledge.schema import Curve

OVERTRAINED = 0.02  # share of the last loss; evaluations of one run differ by less
# Before, a rise says little: the decay of the rate takes it back. Of the 290 runs of examples/study 55 stand at 20 % of
# their length more than OVERTRAINED above their lowest loss so far, and 6 of them end above it; at 80 % it is 11 of 13.
TELLS_FROM = 0.8  # of the run


def overtrained(curve: Curve, max_steps: int) -> str | None:
    """In words, where the held-out loss was clearly lower on the way than where the curve ends now."""
    measured = [p for p in curve.points if p.eval_loss is not None]
    if not measured or measured[-1].step < TELLS_FROM * max_steps:
        return None
    best = min(measured, key=lambda p: p.eval_loss)
    if best.eval_loss >= (1 - OVERTRAINED) * measured[-1].eval_loss:
        return None
    return (
        f"the held-out loss was lowest at step {best.step} ({best.eval_loss:.3f}) and has risen since: "
        "a shorter run would do"
    )
