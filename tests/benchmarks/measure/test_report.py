"""`python -m benchmarks.measure.report`: one answer, then all results, with losses and what did not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from benchmarks.measure import report
from benchmarks.measure.figures import draw_rooflines
from benchmarks.measure.results import Race, find_results, write_results

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MACHINE = {"machine": "some processor", "versions": "torch 2.13, numpy 2.4"}


def test_committed_results_make_one_self_contained_page(tmp_path, capsys):
    out = tmp_path / "report.html"
    report.main([str(RESULTS), "--out", str(out)])
    page = out.read_text()
    assert capsys.readouterr().out.strip() == str(out)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert {"Attention", "Training step", "Time to quality", "Runs"} <= set(headings)
    assert page.count("data:image/png;base64,") >= 3
    assert "AMD EPYC, family 25 model 17 stepping 1, avx512_bf16" in page
    assert not re.search(r"(src|href)=.?https?:", page) and "<script" not in page


def test_the_page_opens_with_one_answer_and_folds_long_maps(tmp_path):
    page = report.render(find_results([RESULTS]))
    before_first_section = page.split("<h2>")[0]
    found = re.search(
        r"attention is ([\d.]+) times as fast as the best other way over (\d+) cases",
        before_first_section,
    )
    assert found and 1.5 < float(found[1]) < 5 and int(found[2]) > 90
    assert (
        "a training step with the default decoder is" in before_first_section
        and "slower in" in before_first_section
    )
    for shown in page.split("<h2>Attention</h2>")[1].split("<h2>")[0].split("<details>")[:1]:
        assert "<img" not in shown and "<td>" not in shown


def test_machines_of_one_name_are_not_mixed(tmp_path):
    names = ("EPYC, family 25 model 1, avx2", "EPYC, family 25 model 17, avx512_bf16")
    for number, name in enumerate(names):
        ratio = 2.0 + number
        ways = {"ours": way(1.0, 1.0), "peer": way(ratio, ratio)}
        machine = {"machine": name, "versions": "torch 2.13"}
        write_results(
            tmp_path / f"{number}.json", [Race("attention", "D 64", {}, ways, laps=[1.0])], machine=machine
        )
    page = report.render(find_results([tmp_path]))
    assert page.count("<h2>Attention</h2>") == 2
    for name, ratio in zip(names, ("2.00", "3.00"), strict=True):
        assert f"On {name}, torch 2.13, attention is {ratio} times as fast" in page


def test_what_was_left_out_is_said_at_the_top(tmp_path):
    races = [
        Race("attention", "float32", {}, {"ours": way(1.0, 1.0), "peer": way(2.0, 2.0)}, laps=[1.0]),
        Race("attention", "bfloat16", {}, {"ours": {"error": "left out: no bfloat16 here"}}),
    ]
    write_results(tmp_path / "suites.json", races, machine=MACHINE)
    page = report.render(find_results([tmp_path]))
    assert "1 cases were not run: left out: no bfloat16 here." in page.split("<h2>")[0]


def way(seconds, ratio):
    return {"median_seconds": seconds, "ratio_to_ours": ratio}


def test_losses_and_failures_are_shown(tmp_path):
    ways = {
        "ours": way(0.002, 1.0),
        "winner": way(0.001, 0.5),
        "loser": way(0.006, 3.0),
        "flex": {"error": "RuntimeError: <no kernel>"},
    }
    write_results(
        tmp_path / "suite.json", [Race("packing", "pack-128", {}, ways, laps=[0.002])], machine=MACHINE
    )
    page = report.render(find_results([tmp_path]))
    assert "1 of 2 above 1 (ours is faster), 1 below" in page
    assert "flex, pack-128: RuntimeError: &lt;no kernel&gt;" in page
    assert "some processor, torch 2.13" in page and "<td>1 ms (0.50x)</td>" in page


def test_of_several_runs_the_median_counts(tmp_path):
    for number, ratio in enumerate((1.0, 9.0, 2.0)):
        ways = {
            "ours": {"median_seconds": 1.0, "ratio_to_ours": 1.0},
            "peer": {"median_seconds": ratio, "ratio_to_ours": ratio},
        }
        write_results(
            tmp_path / f"run{number}.json",
            [Race("packing", "pack-128", {}, ways, laps=[1.0])],
            machine=MACHINE,
        )
    assert "<td>2000 ms (2.00x)</td>" in report.render(find_results([tmp_path]))


def speed_race(suite: str, params: dict, flops: float, intensity: float) -> Race:
    ways = {
        "ours": {"median_seconds": 1.0, "ratio_to_ours": 1.0},
        "peer": {"median_seconds": 2.0, "ratio_to_ours": 2.0},
    }
    ceilings = {"flops_per_second": 4e11, "bytes_per_second": 2e10}
    extra = {
        "dtype": "bfloat16",
        "useful_flops": flops,
        "useful_bytes": flops / intensity,
        "ceilings": ceilings,
    }
    return Race(suite, "-".join(map(str, params.values())), params, ways, extra, [1.0])


def test_speed_is_drawn_against_every_axis_and_under_the_roofline(tmp_path):
    races = [
        *(
            speed_race(
                "attention_shapes", {"axis": "length", "value": n, "direction": "forward"}, n * 1e8, n / 2
            )
            for n in (64, 1024)
        ),
        *(
            speed_race("masked_attention", {"missing": m, "direction": "forward+backward"}, 1e11 / m, 100 / m)
            for m in (5, 50)
        ),
    ]
    write_results(tmp_path / "shapes.json", races, machine=MACHINE)
    page = report.render(find_results([tmp_path]))
    for text in ("Roofline", "Speed by tokens in a sequence", "Speed by percent of the tokens missing"):
        assert text in page, text


def test_a_roofline_needs_both_ceilings_from_any_race():
    products_alone = speed_race("attention", {"pattern": "aim", "direction": "forward"}, 1e11, 100)
    del products_alone.extra["ceilings"]["bytes_per_second"]
    both = speed_race("attention_shapes", {"axis": "length", "value": 64, "direction": "forward"}, 1e10, 32)
    assert list(draw_rooflines([products_alone])) == []
    ((dtype, picture),) = draw_rooflines([products_alone, both])
    assert (
        dtype == "bfloat16"
        and picture.startswith(b"\x89PNG")
        and picture != next(iter(draw_rooflines([both])))[1]
    )
