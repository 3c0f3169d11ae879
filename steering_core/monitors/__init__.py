"""Monitors: what a vector says of texts that it does not change.

`gates` are thresholds with their false alarms, `conversation` reads along with one conversation, `screen` with a data
set.
"""
