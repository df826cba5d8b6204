"""What this machine has and lacks for a sweep, and the command that mends it."""
