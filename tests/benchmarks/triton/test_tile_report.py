"""Tiles that were tried are saved beside today's."""

from __future__ import annotations

from benchmarks.triton.tile_report import Candidate, races_of
from lsm2_kernels.triton.tiles import Tile


def test_tiles_are_saved_beside_todays():
    today, other = Tile(128, 64, 8, 3), Tile(64, 64, 4, 3)
    candidates = [
        Candidate(64, "aim", "forward", today, pass_ms=2.0, registers=128),
        Candidate(64, "aim", "forward", other, pass_ms=1.0),
        Candidate(64, "aim", "forward", Tile(256, 64, 8, 2), fault="out of shared memory"),
    ]
    (race,) = races_of(candidates)
    assert (race.suite, race.case, race.ours) == ("tile_sweep", "D 64, aim, forward", "128 x 64 x 8 x 3")
    assert [way.get("ratio_to_ours") for way in race.ways.values()] == [1.0, 0.5, None]
    assert race.ways["128 x 64 x 8 x 3"]["registers"] == 128
    assert race.ways["256 x 64 x 8 x 2"]["error"] == "out of shared memory"
