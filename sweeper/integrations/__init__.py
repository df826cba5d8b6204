"""Sweeps for trainers that others have written; each module needs its trainer's own package alone."""
