"""Messages name the flags that a user types, and the file at which the system refused."""

import errno
from pathlib import Path

import pytest

from lsm2.cli.messages import describe_failure, in_flags

OPTIONS = (
    "data",
    "model.depth",
    "train.steps",
    "train.batch_days",
    "train.seed",
    "masking.random_ratio",
    "model.decoder",
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("batch_days is 0; it must be at least 1", "--batch-days is 0; it must be at least 1"),
        ("steps is 0; it must be at least 1", "--steps is 0; it must be at least 1"),
        ("masking.random_ratio is 1.5; it", "--random-ratio is 1.5; it"),
        ("trained with train.seed = 0, now it is 1", "trained with --seed 0, now it is 1"),
        ("at most batch_days = 8", "at most --batch-days 8"),
        ("with model.masking.random_ratio = 0.8, now", "with --random-ratio 0.8, now"),
        (
            "give only one: batch_days for steps of so many days",
            "give only one: --batch-days for steps of so many days",
        ),
        ("after 3 steps the decoder saw no data", "after 3 steps the decoder saw no data"),
        ("signal 'batch_days' is constant", "signal 'batch_days' is constant"),
        ("/home/batch_days/store is no store", "/home/batch_days/store is no store"),
        ("batch_days.csv row 3", "batch_days.csv row 3"),
        ("a multiple of sample_minutes = 5", "a multiple of sample_minutes = 5"),
        ("use --batch-days or seed", "use --batch-days or seed"),
    ],
)
def test_names_of_options_become_flags_and_nothing_else_changes(message, expected):
    assert in_flags(message, OPTIONS) == expected


def test_without_a_command_a_message_stays_unchanged():
    assert in_flags("batch_days is 0", ()) == "batch_days is 0"


def test_a_failure_names_the_file_or_else_the_folder_written_to():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert describe_failure(full, Path("runs/a")) == "runs/a: No space left on device; make room there"
    named = PermissionError(errno.EACCES, "Permission denied", "/root/x.csv")
    assert describe_failure(named, Path("runs/a")) == "/root/x.csv: Permission denied"
    assert describe_failure(OSError("connection lost"), Path("runs/a")) == "connection lost"
    assert "No space left" in describe_failure(full, None)
