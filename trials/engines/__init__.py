"""Engines: how the ranks of a gang share one model. All give the same numbers."""
