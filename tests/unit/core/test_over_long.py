"""What a user is told of samples longer than the limit."""

from sweeper.core.over_long import over_long


def test_nothing_is_said_where_nothing_was_too_long() -> None:
    assert over_long({"train_samples": 8, "truncated": 0, "dropped": 0, "test": {"new": {"dropped": 0}}}) == ""


def test_each_set_says_what_was_truncated_and_what_dropped() -> None:
    facts = {"truncated": 1200, "dropped": 3, "test": {"new": {"truncated": 0, "dropped": 2}, "old": {}}}
    assert over_long(facts) == "over-long samples, training: 1,200 truncated and 3 dropped; new: 2 dropped"
