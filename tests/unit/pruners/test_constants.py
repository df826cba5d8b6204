"""A constant is changed wherever it is used, alone, and put back."""

from benchmarks.pruners.constants import CONSTANTS, VARIANTS, constant
from sweeper.pruners import finals, forecast, process


def test_a_constant_is_changed_in_every_module_that_took_it_and_put_back():
    before = process.TAIL_DOF
    with constant("process", "TAIL_DOF", 2.0):
        assert process.TAIL_DOF == finals.TAIL_DOF == forecast.TAIL_DOF == 2 * before
    assert process.TAIL_DOF == finals.TAIL_DOF == forecast.TAIL_DOF == before


def test_another_modules_constant_of_the_same_name_is_left_alone():
    before = forecast.PRIOR_DOF
    with constant("process", "PRIOR_DOF", 2.0):
        assert before == forecast.PRIOR_DOF
        assert finals.PRIOR_DOF == process.PRIOR_DOF == 2 * before


def test_counts_stay_whole():
    with constant("forecast", "MIN_TRIALS", 0.5):
        assert forecast.MIN_TRIALS == 2


def test_every_variant_names_a_constant_that_is_there():
    assert len(VARIANTS) == 2 * sum(len(names) for names in CONSTANTS.values())
    for variant in VARIANTS.values():
        with constant(*variant):
            pass
