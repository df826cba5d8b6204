"""Is the winner really first? The leaders run again with fresh seeds, and what that says."""
