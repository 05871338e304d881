"""Readers of files from elsewhere; each one writes a DayStore."""
