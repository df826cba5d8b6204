"""Runs that other trainers logged, brought into the format that replay and report read."""
