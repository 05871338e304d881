"""`python -m benchmarks.attention.race`: benchmarks/README.md's peer runs as it stands, on a CPU and in a dry
run of a GPU; a wrong peer is reported, a level that is not there refused, and slow bfloat16 left out with its
reason.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.attention import race
from benchmarks.measure.results import find_results

PAGE = (Path(__file__).parents[3] / "benchmarks" / "README.md").read_text(encoding="utf-8")
SHORT = ["--device", "cpu", "--dtypes", "float32", "--patterns", "short", "--rounds", "1"]


@pytest.fixture
def peer_file(tmp_path):
    found = re.search(r"<!-- example: peer -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found and found[1].count("\n") < 40
    file = tmp_path / "my_peer.py"
    file.write_text(found[1])
    return file


def run(tmp_path, *arguments):
    out = tmp_path / "numbers.json"
    race.main([*map(str, arguments), "--json", str(out)])
    return find_results([out])[0].races


def test_the_pages_peer_is_checked_and_timed_on_a_cpu(peer_file, tmp_path, capsys):
    races = run(tmp_path, *SHORT, "--peer", peer_file)
    assert [race.params["direction"] for race in races] == ["forward", "forward+backward"]
    for found in races:
        assert list(found.ways) == ["ours", "sdpa_split", "sdpa_padded", "by_hand"]
        assert found.ways["by_hand"]["ratio_to_ours"] > 0
        assert {"flops_per_second", "exponentials_per_second"} == set(found.extra["ceilings"])
    assert "by_hand" in capsys.readouterr().out


def test_a_wrong_peer_is_reported_with_its_error(peer_file, tmp_path):
    peer_file.write_text(peer_file.read_text().replace("** -0.5", "** -0.25"))
    forward, _ = (found.ways["by_hand"] for found in run(tmp_path, *SHORT, "--peer", peer_file))
    assert list(forward) == ["error"] and forward["error"].startswith("AssertionError")


def test_a_dry_run_takes_it_too(peer_file, tmp_path):
    races = run(tmp_path, "--dry-run", "--peers", "--peer", peer_file)
    assert races and all(list(found.ways) == ["ours", "by_hand"] for found in races)


def test_every_level_is_raced_against_the_same_peers(tmp_path):
    races = run(tmp_path, *SHORT, "--levels", "portable", "--peers", "sdpa_split")
    assert [found.params["level"] for found in races] == ["portable"] * 2
    with pytest.raises(SystemExit):
        race.main([*SHORT, "--levels", "no_such_level"])


def test_slow_bfloat16_is_left_out_unless_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(race, "bfloat16_is_fast", lambda device: False)
    options = ["--device", "cpu", "--patterns", "short", "--rounds", "1", "--peers", "sdpa_split"]
    races = run(tmp_path, *options)
    by_dtype = {found.params["dtype"]: found.ways["ours"] for found in races}
    assert "slower than float32" in by_dtype["bfloat16"]["error"] and "error" not in by_dtype["float32"]
    assert "slower than float32" in capsys.readouterr().out.replace("\n", " ")
    races = run(tmp_path, *options, "--dtypes", "bfloat16")
    assert all("error" not in found.ways["ours"] for found in races)


def test_unknown_peers_are_named(capsys):
    with pytest.raises(SystemExit):
        race.main(["--peers", "no_such_peer"])
    assert "there is no no_such_peer" in capsys.readouterr().err
