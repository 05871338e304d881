"""The command `lsm2`: a file per group of verbs; each verb imports what is heavy when it runs."""

from lsm2.cli.entry import main

__all__ = ["main"]
