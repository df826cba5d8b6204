"""The numbers of a report against ones computed by hand."""

from __future__ import annotations

import math

import pytest
from report_cases import small_grid, sweep, trial

from sweeper.report import sentences
from sweeper.report.costs import costs
from sweeper.report.curves import learning_curves
from sweeper.report.effects import effects
from sweeper.report.foretold import scatters, table
from sweeper.report.grid import panels
from sweeper.report.noise import contest
from sweeper.report.record import ordered_values, value_text


def test_an_axis_weighs_what_its_means_explain_of_the_finals_1_2_3_4():
    """Total sum of squares 5; means 1.5 and 3.5 by batch size make 4 of it, means 2 and 3 by rate 1."""
    batch, rate = effects(small_grid())
    assert (batch.axis, batch.share) == ("batch_size", pytest.approx(0.8))
    assert (rate.axis, rate.share) == ("learning_rate", pytest.approx(0.2))
    assert [(level.value, level.cells, level.mean, level.best) for level in rate.levels] == [
        ("1e-4", 2, 2.0, 1.0),
        ("1e-3", 2, 3.0, 2.0),
        ("1", 2, None, None),
    ]
    assert "batch_size mattered most" in sentences.importance_sentence([batch, rate])


def test_axes_are_not_weighed_by_three_finished_trials_or_equal_ones():
    few = sweep([trial({"learning_rate": rate}, rate) for rate in (1.0, 2.0, 3.0)])
    same = sweep([trial({"learning_rate": rate}, 1.0) for rate in (1.0, 2.0, 3.0, 4.0)])
    assert [effect.share for record in (few, same) for effect in effects(record)] == [None, None]


def test_the_heatmap_puts_rates_across_and_marks_what_has_no_final_score():
    first = contest(small_grid()).contenders[0].key
    (panel,) = panels(small_grid(), effects(small_grid()), first)
    assert (panel.across, panel.columns) == ("learning_rate", ("1e-4", "1e-3", "1"))
    assert (panel.down, panel.rows) == ("batch_size", ("32", "64"))
    assert [panel.slots[0, column].role for column in range(3)] == ["winner", "complete", "guard"]
    pruned = panel.slots[1, 2]
    assert (pruned.role, pruned.value, pruned.at, pruned.rule) == ("pruned", 5.0, 128, "calibrated")
    said = sentences.heatmap_sentence(small_grid(), panel)
    assert "best 1.000 at learning_rate 1e-4 and batch_size 32; 4 of 6 ran to the end, 2 ended early" in said


def test_further_axes_make_panels_and_seeds_are_taken_together():
    cells = [
        trial({"learning_rate": rate, "warmup_samples": warmup, "seed": seed}, rate + warmup + seed)
        for rate in (1.0, 2.0)
        for warmup in (0, 100)
        for seed in (0, 1)
    ]
    record = sweep([*cells, *(trial({**cell.row.axes, "batch_size": 8}, 7.0) for cell in cells)])
    found = panels(record, effects(record))
    assert [(panel.title, panel.across, panel.down) for panel in found] == [
        ("warmup_samples 0", "learning_rate", "batch_size"),
        ("warmup_samples 100", "learning_rate", "batch_size"),
    ]
    slot = found[0].slots[0, 0]
    assert (slot.value, slot.repeats) == (1.5, 2)


def test_settings_drawn_at_random_make_no_heatmap_however_many_axes_they_have():
    cells = [trial({f"axis{k}": 100 * k + place for k in range(12)}, float(place)) for place in range(40)]
    record = sweep(cells)
    assert panels(record, effects(record)) == ()


def test_a_lead_of_a_tenth_over_100_questions_is_within_the_noise_and_over_400_is_not():
    """Standard errors sqrt(.8 * .2 / n) and sqrt(.7 * .3 / n): at 100 questions the lead is 0.1 +- 0.119."""
    cells = [trial({"learning_rate": r}, score) for r, score in ((1e-4, 0.7), (1e-3, 0.8))]
    for size, answer in ((100, "within noise"), (400, "ahead")):
        record = sweep(cells, direction="maximize", objective="exact_match", test_sizes={"new": size})
        found = contest(record)
        assert (found.kind, found.answer) == ("test size", answer)
        assert found.contenders[0].error == pytest.approx(math.sqrt(0.16 / size))
        assert found.contenders[1].half_width == pytest.approx(1.959964 * math.sqrt(0.37 / size), rel=1e-6)


def test_a_mean_over_two_sets_has_the_error_of_both_and_certainty_is_never_claimed():
    curves = {"objective": [0.8] * 4, "exact_match/new": [0.6] * 4, "exact_match/old": [1.0] * 4}
    cells = [trial({"learning_rate": rate}, 0.8, curves=curves) for rate in (1e-4, 1e-3)]
    sizes = {"new": 100, "old": 100}
    found = contest(sweep(cells, direction="maximize", objective="exact_match", test_sizes=sizes))
    assert found.contenders[0].error == pytest.approx(math.sqrt(0.24 / 100 + 0.995 * 0.005 / 100) / 2)


def test_repeated_seeds_tell_the_noise_of_their_means():
    """Deviations of 0.1 around 1.1 and 1.6: pooled variance 0.02, 2 degrees of freedom, t = 4.303, so 0.5 +- 0.609."""
    finals = {(1e-4, 0): 1.0, (1e-4, 1): 1.2, (1e-3, 0): 1.5, (1e-3, 1): 1.7}
    record = sweep([trial({"learning_rate": rate, "seed": seed}, value) for (rate, seed), value in finals.items()])
    found = contest(record)
    assert (found.kind, found.answer, found.total) == ("seeds", "within noise", 2)
    assert [each.name for each in found.contenders] == ["lr1e-4", "lr1e-3"]
    assert found.contenders[0].error == pytest.approx(0.1)
    assert found.contenders[1].lead == pytest.approx(0.5)
    assert found.contenders[1].half_width == pytest.approx(4.302653 * math.sqrt(0.02), rel=1e-5)
    said = sentences.lead_sentence(record, found)
    assert "Of 4 configurations, learning_rate 1e-4 came out best: heldout_loss 1.100, the mean of 2 seeds" in said
    assert "within the noise" in said


def test_the_error_of_the_test_is_added_to_that_between_seeds():
    """Shares 0.6 and 0.8 twice each, +-0.1: seeds 4.303 * hypot(0.1, 0.1), test 1.96 * hypot of both errors."""
    finals = {(1e-4, 0): 0.7, (1e-4, 1): 0.5, (1e-3, 0): 0.9, (1e-3, 1): 0.7}
    cells = [trial({"learning_rate": rate, "seed": seed}, value) for (rate, seed), value in finals.items()]
    sizes = {"new": 100}
    found = contest(sweep(cells, direction="maximize", objective="exact_match", test_sizes=sizes))
    assert found.kind == "seeds and test size"
    test_error = math.sqrt(0.9 * 0.1 / 100 + 0.7 * 0.3 / 100)
    seeds_error = math.sqrt(0.02)
    assert found.contenders[1].half_width == pytest.approx(math.hypot(4.302653 * seeds_error, 1.959964 * test_error))


def test_the_best_slot_is_that_of_the_best_mean_not_of_the_luckiest_run():
    finals = {(1e-4, 0): 1.0, (1e-4, 1): 2.0, (1e-3, 0): 1.2, (1e-3, 1): 1.2}
    record = sweep([trial({"learning_rate": rate, "seed": seed}, value) for (rate, seed), value in finals.items()])
    (panel,) = panels(record, effects(record), contest(record).contenders[0].key)
    assert [(slot.role, slot.value) for slot in panel.slots.values()] == [("complete", 1.5), ("winner", 1.2)]


def test_single_runs_of_a_loss_have_no_known_noise():
    found = contest(small_grid())
    assert (found.kind, found.answer) == ("unknown", "not known")
    assert "nobody knows" in sentences.lead_sentence(small_grid(), found)


def test_costs_count_ranks_and_add_up():
    done, pruned, guard, whole = costs(small_grid())
    assert (done.trials, done.samples, done.train_s, done.eval_s, done.rank_s) == (4, 1024, 16.0, 4.0, 40.0)
    assert (pruned.trials, pruned.samples, pruned.planned_samples, pruned.rank_s) == (1, 128, 256, 6.0)
    assert (guard.trials, guard.samples, guard.rank_s) == (1, 64, 4.0)
    assert (whole.trials, whole.samples, whole.planned_samples, whole.rank_s) == (6, 1216, 1536, 50.0)


def test_what_was_saved_and_what_it_risked_is_said():
    said = " ".join(sentences.saved_sentences(small_grid()))
    assert "21% of the full grid's samples was not trained on: 320 of 1,536" in said
    assert "was not checked" in said
    held = trial({"batch_size": 128, "learning_rate": 1e-3}, 1.0, held_back="calibrated")
    assert "1 of 1 trial held back from a prune ended as good as the best" in " ".join(
        sentences.saved_sentences(sweep([*small_grid().trials, held]))
    )


def test_a_pruned_trial_that_was_ahead_is_named():
    ahead = trial({"learning_rate": 5.0}, 0.5, "pruned", samples=64, rule="calibrated")
    said = " ".join(sentences.saved_sentences(sweep([*small_grid().trials, ahead])))
    assert "Doubt: lr5 was pruned at 64 with a better heldout_loss (0.5000)" in said


def test_early_signals_are_shown_at_the_earliest_milestone_that_has_the_most_trials():
    """The last trial still warms up at 64 samples."""
    trials = [
        trial({"learning_rate": float(k)}, float(k), curves={"objective": [k] * 4, "grad_norm": [k, 2 * k, 1, 1]})
        for k in range(1, 8)
    ]
    late = trial(
        {"learning_rate": 9.0}, 9.0, curves={"objective": [9.0] * 4, "grad_norm": [9, 18, 1, 1]}, warmup_end=128
    )
    (scatter,) = scatters(sweep([*trials, late]))
    assert (scatter.signal, scatter.samples, len(scatter.dots)) == ("grad_norm", 128, 8)
    assert [(dot.early, dot.final) for dot in scatter.dots[:2]] == [(2.0, 1.0), (4.0, 2.0)]
    said = sentences.scatter_sentence(sweep([*trials, late]), scatter)
    assert "a lower early gradient norm goes with a better final model, here too" in said
    assert [line.finding for line in table(sweep([*trials, late]).summary.signals)][:2] == ["holds", "holds"]


def test_the_window_of_curves_leaves_a_diverged_one_outside_and_names_three_leaders():
    levels = [1.0, 1.1, 1.2, 1.3, 1.4]
    cells = [trial({"learning_rate": r}, r, curves={"objective": [r + 1, r, r, r]}) for r in levels]
    wild = trial({"learning_rate": 9.0}, None, "pruned", curves={"objective": [2.0, 1e6, math.nan, math.inf]})
    found = learning_curves(sweep([*cells, wild]))
    assert found is not None
    assert found.outside == 1
    assert found.low < 1.0
    assert 2.0 < found.high < 4.0
    assert [line.label for line in found.lines if line.label] == ["lr1.1", "lr1.2", "lr1"]


def test_without_curves_of_the_objective_the_training_loss_is_drawn_and_named():
    cell = trial({"learning_rate": 1.0}, 0.5, curves={"train_loss": [4.0, 3.0, 2.0, 1.0]})
    found = learning_curves(sweep([cell], direction="maximize", objective="exact_match"))
    assert found is not None
    assert found.signal == "train_loss"


def test_values_are_written_as_people_write_them():
    assert [value_text(v) for v in (2e-5, None, "cosine", True, [1, 2])] == ["2e-5", "none", "cosine", "True", "[1, 2]"]
    assert ordered_values([3, 1, 3, 2]) == [1, 2, 3]
    assert ordered_values(["b", "a", "b", None]) == ["b", "a", None]
