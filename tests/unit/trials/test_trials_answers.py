"""What counts as the final answer in a text."""

from __future__ import annotations

import pytest

from trials.answers import final_answer


@pytest.mark.parametrize(
    ("rule", "text", "answer"),
    [
        ("whole", "  Paris \n", "Paris"),
        ("whole", " \n", None),
        ("last_number", "She makes 9 * 2 = $18 every day.", "18"),
        ("last_number", "it was 1,200.50 in all", "1200.5"),
        ("last_number", "between 3-5", "-5"),
        ("last_number", "1000", "1000"),
        ("last_number", "about 0.10 or .5", "0.5"),
        ("last_number", "-0", "0"),
        ("last_number", "no idea", None),
        ("after_marker", "9 - 3 = 6\n#### 6", "6"),
        ("after_marker", "#### 6", "6"),
        ("after_marker", "####6\nI hope this helps 7", "6"),
        ("after_marker", "#### 1\nno:\n#### $1,234.00.", "1234"),
        ("after_marker", "#### 50%", "50"),
        ("after_marker", "#### blue whale", "blue whale"),
        ("after_marker", "the answer is 6", None),
        ("after_marker", "6 ####", None),
    ],
)
def test_the_final_answer_is_found_in_one_form(rule, text, answer) -> None:
    assert final_answer(text, rule, "####") == answer


def test_the_marker_is_the_config_s() -> None:
    assert final_answer("So: 3\nAnswer: (B)", "after_marker", "Answer:") == "(B)"
