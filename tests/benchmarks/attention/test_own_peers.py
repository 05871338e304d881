"""benchmarks/README.md's peer runs as it stands, through the program that it names; a file without peers is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.attention import own_peers
from benchmarks.attention import race as attention
from benchmarks.attention import race_gpu as attention_gpu
from benchmarks.measure.results import find_results

PAGE = (Path(__file__).parents[3] / "benchmarks" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def peer_file(tmp_path):
    found = re.search(r"<!-- example: peer -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found and found[1].count("\n") < 40
    file = tmp_path / "my_peer.py"
    file.write_text(found[1])
    return file


def test_the_pages_peer_is_checked_and_timed_on_a_cpu(peer_file, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    attention.main(dtypes=("float32",), patterns=("short",), rounds=1, peer_rounds=1, peer=peer_file, json=out)
    races = [race for race in find_results([out])[0].races if "by_hand" in race.ways]
    assert [race.params["direction"] for race in races] == ["forward", "forward+backward"]
    assert all(race.ways["by_hand"]["ratio_to_ours"] > 0 for race in races)
    assert "by_hand" in capsys.readouterr().out


def test_a_wrong_peer_is_reported_with_its_error(peer_file, tmp_path):
    out = tmp_path / "numbers.json"
    peer_file.write_text(peer_file.read_text().replace("** -0.5", "** -0.25"))
    attention.main(dtypes=("float32",), patterns=("short",), rounds=1, peer_rounds=1, peer=peer_file, json=out)
    forward, _ = (race.ways["by_hand"] for race in find_results([out])[0].races if "by_hand" in race.ways)
    assert list(forward) == ["error"] and forward["error"].startswith("AssertionError")


def test_the_gpu_program_takes_it_too(peer_file, tmp_path, monkeypatch):
    out = tmp_path / "numbers.json"
    monkeypatch.setattr(attention_gpu, "PEERS", {})
    monkeypatch.setattr("sys.argv", ["attention_gpu", "--dry-run", "--peer", str(peer_file), "--json", str(out)])
    attention_gpu.main()
    assert all(list(race.ways) == ["ours", "by_hand"] for race in find_results([out])[0].races)


def test_what_is_no_file_of_peers_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"absent\.py is no Python file"):
        own_peers.load_peers(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("X = 1\n")
    with pytest.raises(SystemExit, match=r"empty\.py defines no function"):
        own_peers.load_peers(tmp_path / "empty.py")
