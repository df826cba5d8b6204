"""``sweeper report``: one page that says what a sweep has taught, every number of it computed from the record."""
