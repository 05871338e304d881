"""The headline compares with the best fill, in plain words."""

import dataclasses

from lsm2.evaluate.methods import name_runs
from lsm2.evaluate.results import Comparison
from lsm2.report.summary import HEADLINE_TASKS, headline, printable


def test_headline_quotes_the_best_fill_when_aim_won(made_up_evaluation):
    won = headline(made_up_evaluation({"aim": 0.4, "smooth": 0.8}))
    assert len(won) == len(HEADLINE_TASKS)
    assert won[0] == (
        "80 % hidden at random: AIM is better than every simple fill. Its squared error is 50 % "
        "lower than that of smooth, the best of them (0.400 against 0.800; 95 % interval over people: 60 "
        "% lower to 40 % lower)."
    )


def test_headline_says_where_aim_lost_to_the_best_fill_and_to_the_mean(made_up_evaluation):
    lost = headline(made_up_evaluation({"aim": 1.5, "same_minute": 1.0, "mean": 1.2}))[0]
    assert (
        "AIM is WORSE than the best simple fill. Its squared error is 50 % higher than that of same minute"
        in lost
    )
    assert "AIM is even worse than the training mean (1.200)." in lost


def test_methods_that_see_other_days_are_told_apart(made_up_evaluation):
    evaluation = made_up_evaluation({"person_time_of_day": 0.2, "aim": 0.5})
    assert evaluation.tasks["random_80"].best_fill() == "mean"
    assert evaluation.tasks["random_80"].best_methods() == {"aim"}
    assert "person's time of day † has 0.200; it sees the person's other days" in headline(evaluation)[0]


def test_an_interval_on_both_sides_of_no_difference_is_told(made_up_evaluation):
    evaluation = made_up_evaluation({"aim": 0.99})
    task = evaluation.tasks["random_80"]
    level = "AIM cannot be told apart from the best simple fill, training mean. "
    for interval, said in (((0.9, 1.1), level), (None, "too few people for an interval")):
        aim_over = task.aim_over | {"mean": Comparison(0.99, interval)}
        changed = dataclasses.replace(task, aim_over=aim_over)
        assert said in headline(dataclasses.replace(evaluation, tasks={"random_80": changed}))[0]


def test_a_fill_without_error_is_no_division_by_zero(made_up_evaluation):
    said = headline(made_up_evaluation({"aim": 0.5, "linear": 0.0}))[0]
    assert "linear, makes no error" in said


def test_control_characters_do_not_reach_the_reader():
    assert printable("a\x1b[31m\nb [bpm]") == "a\N{REPLACEMENT CHARACTER}[31m\nb [bpm]"


def test_other_runs_are_no_simple_fills_and_get_a_sentence(made_up_evaluation):
    others = tuple(name_runs([("runs/x", "linear")]))
    evaluation = made_up_evaluation({"aim": 0.6, "impute_first": 0.5, "smooth": 0.7}, other_runs=others)
    assert evaluation.tasks["random_80"].best_fill() == "smooth"
    (first, *_) = headline(evaluation)
    assert "AIM is better than every simple fill" in first
    assert "Against the model impute first its squared error is 20 % higher (against 0.500; " in first
