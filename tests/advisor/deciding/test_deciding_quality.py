"""Whether the metric or the loss decides."""

from __future__ import annotations

from itertools import permutations

import pytest

from advisor.deciding.deciding_quality import sharper_quality
from advisor.deciding.quality import beats, leads
from advisor.recommendation import Prediction
from tests.advisor.deciding.test_decision import pick_of
from tests.advisor.factories import candidate


@pytest.mark.parametrize(
    ("loss", "decides", "pick"),
    [
        (1.19, "exact match", "lora"),  # its lead of .01 is a quarter of a half-width, that of the metric a half
        (1.17, "eval loss", "oft"),
        (1.21, "exact match", "lora"),
    ],
)
def test_where_loss_and_right_answers_disagree_the_clearer_lead_decides(loss, decides, pick):
    field = [candidate("lora", 0.51, 12.0, loss=1.20), candidate("oft", 0.50, 12.0, loss=loss)]
    chosen = pick_of(field)
    assert (chosen.name, chosen.compared_by) == (pick, decides)


def test_the_clearer_lead_decides_where_the_loss_tells_more_of_the_others_apart_too():
    others = [candidate(f"c{i}", 0.3, 12.0, loss=1.3 + 0.1 * i) for i in range(4)]
    field = [candidate("lora", 0.55, 12.0, loss=1.21), candidate("oft", 0.50, 12.0, loss=1.20)]
    assert sharper_quality([*field, *others]) == "predicted_loss"
    assert (pick_of([*field, *others]).name, pick_of([*field, *others]).compared_by) == ("lora", "exact match")


def test_of_equally_many_right_answers_the_lower_loss_leads_in_whatever_order():
    field = [
        candidate("a", 0.51, 12.0, loss=1.20),
        candidate("b", 0.51, 12.0, loss=1.40),  # from here the lead in loss would be the clearer one
        candidate("c", 0.50, 12.0, loss=1.19),
    ]
    for ordered in permutations(field):
        assert (pick_of(ordered).name, pick_of(ordered).compared_by) == ("a", "exact match")


@pytest.mark.parametrize("metric", ["own.py:score", "macro F1"])
def test_a_metric_that_was_asked_for_is_not_denied_by_the_loss(metric):
    """Rare classes count little in the loss."""
    score = Prediction(metric=metric, value=0.0, low=0.0, high=1.0, noise=0.02)
    field = [
        candidate(name, 0.5, 12.0, loss=loss).model_copy(
            update={"predicted": score.model_copy(update={"value": value})}
        )
        for name, value, loss in (("lora", 0.51, 1.20), ("oft", 0.50, 1.17))
    ]
    assert pick_of(field).compared_by == metric


@pytest.mark.parametrize(("lead", "decides"), [(0.16, "macro F1"), (0.04, "eval loss")])
def test_nor_where_the_loss_tells_more_of_the_others_apart_if_its_own_lead_is_more_than_noise(lead, decides):
    score = Prediction(metric="macro F1", value=0.0, low=0.0, high=1.0, noise=0.05)
    values = (("oft", 0.56 + lead, 0.50), ("lora", 0.56, 0.40), ("dora", 0.55, 0.44), ("ia3", 0.54, 0.47))
    field = [
        candidate(name, 0.5, 12.0, loss=loss, loss_noise=0.01).model_copy(
            update={"predicted": score.model_copy(update={"value": value})}
        )
        for name, value, loss in values
    ]
    assert sharper_quality(field) == "predicted_loss"
    assert pick_of(field).compared_by == decides


def test_one_that_left_the_race_denies_nothing():
    ahead = candidate("oft", 0.50, 12.0, loss=1.1, status="eliminated")
    assert pick_of([candidate("lora", 0.51, 12.0, loss=1.2), ahead]).compared_by == "exact match"


def test_the_loss_decides_where_the_metric_separates_less():
    vague = [candidate(n, q, 10, noise=0.3) for n, q in (("a", 0.5), ("b", 0.55), ("c", 0.6))]
    sharp = [candidate(n, q, 10, noise=0.001) for n, q in (("a", 0.5), ("b", 0.55), ("c", 0.6))]
    assert sharper_quality(vague) == "predicted_loss"
    assert sharper_quality(sharp) == "predicted"


def test_the_loss_stands_in_only_where_it_tells_a_quarter_more_pairs_apart():
    def compared_by(metrics, losses):
        pairs = zip(metrics, losses, strict=True)
        return sharper_quality([candidate(f"c{m}", m, 10, loss=loss) for m, loss in pairs])

    apart = (0.5, 0.6, 0.7, 0.8)  # six pairs
    one_alike, two_alike = (0.5, 0.501, 0.7, 0.8), (0.5, 0.501, 0.7, 0.701)
    assert compared_by(one_alike, [2 - q for q in apart]) == "predicted"
    assert compared_by(two_alike, [2 - q for q in apart]) == "predicted_loss"


def test_the_loss_decides_where_the_metric_of_some_cannot_be_predicted():
    unknown = candidate("oft").model_copy(update={"predicted": None})
    assert sharper_quality([candidate("lora"), unknown]) == "predicted_loss"


def test_pairs_that_are_probably_apart_count_as_told_apart():
    field = [candidate("lora", 0.5, 10, loss=1.2), candidate("oft", 0.5, 10, loss=1.17)]
    assert leads(field[1], field[0], "predicted_loss") and not beats(field[1], field[0], "predicted_loss")
    assert sharper_quality(field) == "predicted_loss"
