"""Tables of what models learn."""

from benchmarks.science.page_tables import error_table


def test_a_method_that_no_result_has_is_no_column():
    table = error_table("hidden", {"all": {"aim": 0.5, "linear": 0.25}, "some": {"aim": 0.5}})
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert lines[0] == ["hidden", "AIM", "linear"]
    assert lines[2:] == [["all", "0.50", "**0.25**"], ["some", "**0.50**", "-"]]
