"""Exports: the winner of a sweep as a config that another trainer runs, with where it comes from."""
