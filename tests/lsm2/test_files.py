"""Files are old or new, never in part; JSON is an object of finite numbers or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsm2.errors import InputError
from lsm2.files import file_sha256, read_json, write_json, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_whole(file, lambda part: part.write_text("old"))

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail)
    assert file.read_text() == "old"


def test_json_comes_back_and_nan_is_no_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"one": [1, 2.5, None]})
    before = file_sha256(file)
    assert read_json(file, "restore it") == {"one": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(file, {"one": float("nan")})
    assert file_sha256(file) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing; restore it"),
        (b"{", "cannot be read .*; restore it"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[1]", "holds no JSON object; restore it"),
    ],
    ids=["missing", "cut short", "no text", "too deep", "no object"],
)
def test_bad_json_is_an_error_that_says_what_to_do(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(file, "restore it")
