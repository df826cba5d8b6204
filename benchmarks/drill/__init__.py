"""Kills everything a sweep runs on, at random, and counts what was lost, doubled or left behind."""
