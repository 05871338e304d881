"""Verbs that make stores: what is refused writes nothing, and a store is replaced only when asked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lsm2.cli import main
from lsm2.data import Day, DayStore, Signal


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("damage", ["missing", "flipped bit", "cut short"])
def test_a_damaged_store_is_named_by_shard(cohort, tmp_path, blame, damage):
    store = shutil.copytree(cohort, tmp_path / "store")
    manifest = (
        json.loads(next(store.glob("*.json")).read_text()) if len(list(store.glob("*.json"))) == 1 else None
    )
    shard = max(store.rglob("*.arrow"), key=lambda path: path.stat().st_size)
    assert manifest is None or shard.name in json.dumps(manifest)
    data = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    else:
        data[len(data) // 2] ^= 1
        shard.write_bytes(data if damage == "flipped bit" else data[: len(data) // 2])
    assert shard.name in blame("info", store)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "empty"),
        (b"\x00\xff\x00\xfe nonsense", ""),
        (b"subject,timestamp,heart_rate\nann,2026-01-01 00:00,70\nann,2026-01-01 00:00,71\n", "row"),
        (b"subject,time,heart_rate\nann,2026-01-01 00:00,70\n", "timestamp"),
    ],
    ids=["empty", "not a table", "duplicate minute", "no timestamp column"],
)
def test_a_table_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path, blame, text, named):
    source = tmp_path / "day.csv"
    source.write_bytes(text)
    blame = blame("import", "table", source, tmp_path / "out")
    assert "day.csv" in blame and named in blame
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.csv"]


def test_import_table_then_info(tmp_path, capsys):
    source = tmp_path / "day.csv"
    rows = [
        f"ann,2026-01-01 {minute // 60:02d}:{minute % 60:02d},{60 + minute % 7}"
        for minute in range(0, 1440, 5)
    ]
    source.write_text("subject,timestamp,heart_rate\n" + "\n".join(rows) + "\n")
    assert main(["import", "table", str(source), str(tmp_path / "out"), "--sample-minutes", "5"]) == 0
    assert main(["info", str(tmp_path / "out")]) == 0
    assert "288 samples a day (every 5 min)" in capsys.readouterr().out


def test_a_store_is_replaced_only_when_asked(tmp_path, blame):
    source = tmp_path / "day.csv"
    source.write_text(
        "subject,timestamp,heart_rate\n" + "".join(f"a,2026-01-01 {h:02}:00,70\n" for h in range(24))
    )
    out = tmp_path / "out"
    commands = {
        "simulate": ["simulate", str(out), "--people", "2", "--days-per-person", "1"],
        "import": ["import", "table", str(source), str(out), "--sample-minutes", "60"],
    }
    assert main(commands["simulate"]) == 0
    for command in commands.values():
        before = contents(out)
        assert "--replace" in blame(*command)
        assert contents(out) == before
        assert main([*command, "--replace"]) == 0
    assert len(DayStore.open(out).signals) == 1


NAMES = ["hr [bpm]", "a[/b]", ":smile:", "beep\x07\x1b[31mred\x9b1m"]


def test_names_from_data_are_never_interpreted(tmp_path, capsys, blame):
    values = np.ones((len(NAMES), 24), dtype=np.float32)
    signals = [Signal(name, "[u]") for name in NAMES]
    store = tmp_path / "store"
    DayStore.write(store, signals, [Day("[/b]\x1b[2J", "2026-01-01", values)], sample_minutes=60)
    assert main(["info", str(store)]) == 0
    shown = capsys.readouterr().out
    for name in NAMES[:3]:
        assert name in shown
    assert "[u]" in shown and "beep" in shown
    assert not {"\x07", "\x1b", "\x9b"} & set(shown)

    run = tmp_path / "[/run]\x1b[2J"
    assert "[/run]" in blame("report", run) and "\x1b" not in blame("report", run)
