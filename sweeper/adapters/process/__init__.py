"""Trainers of the user's own: processes that are started, listened to, and ended whole."""
