"""What the analysis of the study makes of results whose answer is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from examples.study import analyse, scores
from examples.study.analyse import plot, report
from examples.study.scores import best_at_the_edge, comparisons, score, seed_noise, spearman
from tests.examples.study_results import result

METHODS, RATES = ("lora", "oft", "ia3"), (1e-4, 1e-3, 1e-2)
# Final losses of three methods at three rates: the middle rate is the best of each.
FINALS = {"lora": (1.2, 1.0, 1.4), "oft": (1.5, 1.1, 1.6), "ia3": (2.2, 2.0, 2.1)}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """As many as the figures of the study need take seconds, and these answers hang on none of them."""
    monkeypatch.setattr(scores, "RESAMPLES", 50)


def study(**probes):
    """Nine candidates; `probes` maps a protocol to the loss it sees as a function of (final loss, rate)."""
    return [
        result(
            method,
            rate,
            final=final,
            metric=1 - final / 5,
            **{name: see(final, rate) for name, see in probes.items()},
        )
        for method in METHODS
        for rate, final in zip(RATES, FINALS[method], strict=True)
    ]


class TestScore:
    def test_a_probe_that_sees_the_end_is_perfect(self):
        for s in score(comparisons(study())).values():
            assert s.spearman == pytest.approx(1)
            assert (s.regret_loss, s.regret_metric, s.rate_regret, s.rate_bias) == (0, 0, 0, 0)
            assert s.pair_change == pytest.approx(0, abs=1e-9)
            assert s.best_share == 1  # all protocols are as good

    def test_a_probe_that_only_sees_the_rate_is_biased_by_what_it_overshoots(self):
        found = score(comparisons(study(short=lambda final, rate: 1 / rate, branch=lambda final, rate: rate)))
        assert found["short", 0.1].rate_bias == pytest.approx(1)
        assert found["branch", 0.1].rate_bias == pytest.approx(-1)
        assert found["short", 0.1].rate_regret == pytest.approx((0.4 + 0.5 + 0.1) / 3)
        assert found["prefix", 0.1].best_share == 1
        assert found["short", 0.1].best_share < 0.1

    def test_the_regret_is_that_of_the_pick_among_random_halves(self):
        reversed_ = score(comparisons(study(short=lambda final, rate: -final)))["short", 0.05]
        assert reversed_.spearman == pytest.approx(-1)
        # Of halves (four of nine) the worst is picked: the regret is their mean range.
        finals = np.array([final for method in METHODS for final in FINALS[method]])
        random = np.random.default_rng(1)
        ranges = [np.ptp(random.choice(finals, 4, replace=False)) for _ in range(20_000)]
        assert reversed_.regret_loss == pytest.approx(np.mean(ranges), abs=0.03)
        assert reversed_.regret_metric == pytest.approx(np.mean(ranges) / 5, abs=0.006)

    def test_costs_follow_from_what_each_protocol_has_to_train(self):
        found = score(comparisons(study()))
        assert {name: s.race_cost for (name, f), s in found.items() if f == 0.2} == {
            "prefix": pytest.approx(0.2),
            "short": pytest.approx(0.37),
            "branch": pytest.approx(0.75 * 0.2 + 0.25 * 0.37),
        }
        assert all(s.cost == f for (_, f), s in found.items())

    def test_means_are_over_tasks(self):
        other = [r.model_copy(update={"task": "letter_counting"}) for r in study(prefix=lambda final, rate: -final)]
        both = score(comparisons(study() + other))["prefix", 0.1]
        assert both.spearman == pytest.approx(0)


def test_a_diverged_run_counts_as_the_untuned_model_and_as_the_worst_probe():
    diverged = result("miss", 1e-2, status="diverged")
    early = diverged.model_copy(
        update={"runs": tuple(r.model_copy(update={"points": ()}) for r in diverged.runs if r.protocol == "full")}
    )
    (task,) = comparisons([*study(), early])
    assert task.final_loss[-1] == 5.0 and task.final_metric[-1] == 0.0
    assert all(np.isinf(losses[-1]) for losses in task.probe_loss.values())
    assert score([task])["prefix", 0.1].spearman == pytest.approx(1)


def test_repetitions_with_other_seeds_are_noise_and_no_candidates():
    repeated = [result(final=1.0), result(final=1.2, seed=1), result(final=1.4, seed=2), result("oft", final=3.0)]
    assert [len(task) for task in comparisons(repeated)] == [2]
    loss, metric, freedom = seed_noise(repeated)["chain_sum"]
    assert (loss, metric, freedom) == (pytest.approx(0.2), 0, 2)


def test_the_edge_counts_methods_that_want_more_than_the_highest_rate():
    (task,) = comparisons(study())
    assert best_at_the_edge(task) == (0, 3)
    (falling,) = comparisons([result("lora", rate, final=1 - rate) for rate in RATES])
    assert best_at_the_edge(falling) == (1, 1)


def test_spearman_ranks_infinities_last_and_is_undefined_without_differences():
    assert spearman(np.array([1.0, np.inf, 2.0]), np.array([1.0, 9.0, 2.0])) == pytest.approx(1)
    assert np.isnan(spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


def test_the_report_names_the_best_and_every_probe():
    text = report(study())
    assert "Best: lora at 0.001, loss 1.000, metric 0.800" in text
    assert "The highest rate is the best one for 0 of 3 methods" in text
    assert text.count("| prefix ") == text.count("| short ") == text.count("| branch ") == 4


def test_a_task_without_probes_says_nothing_of_the_protocols():
    unprobed = [
        r.model_copy(update={"task": "synopses", "runs": tuple(run for run in r.runs if run.protocol == "full")})
        for r in study()
    ]
    text = report([*study(), *unprobed])
    assert "All tasks" not in text and "### synopses" in text
    assert text.count("| prefix ") == 8 and text.count("| branch ") == 4
    assert report(study()) in text


def test_too_few_candidates_say_nothing():
    assert report(study()[:3]) == ""


def test_a_plot_of_each_task_is_the_same_file_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    (path,) = plot(study(), tmp_path / "one")
    (again,) = plot(study(), tmp_path / "two")
    assert path.name == "chain_sum.svg" and path.read_bytes() == again.read_bytes()
    assert b"<svg" in path.read_bytes()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(analyse, "find_spec", lambda module: None)
    monkeypatch.setattr(sys, "argv", ["analyse", "--plots", str(tmp_path)])
    with pytest.raises(SystemExit):
        analyse.main()
    assert "pip install 'peft-advisor[study]'" in capsys.readouterr().err
