"""Figures and the self-contained page about a run."""
