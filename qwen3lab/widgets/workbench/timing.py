"""How often the page is updated while something runs."""

SECONDS_BETWEEN_UPDATES = 0.08
"""Shortest time between two updates of the page during a run."""
