"""Embedded worlds: a small model and its data, made on first use, so that a sweep runs without any download."""

from trials.world.paths import known_paths, resolve

__all__ = ["known_paths", "resolve"]
