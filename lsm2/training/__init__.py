"""Pre-training: one step, the loop around it, and what it leaves on disk."""

from lsm2.training.loop import pretrain

__all__ = ["pretrain"]
