"""Text is printed literally, control characters are replaced, and a reader that has gone ends no work."""

import os
import sys

import pytest
from rich.table import Table

from lsm2.progress import PlainConsole, counted, printable, say

HOSTILE = "a[/b] [red]x[/red] :smile: \x1b[31m\x9b2J\x07"
SHOWN = "a[/b] [red]x[/red] :smile: �[31m�2J�"


@pytest.mark.parametrize(
    ("text", "shown"),
    [(HOSTILE, SHOWN), ("two\nlines\tand é 心 \u200d", "two\nlines\tand é 心 \u200d"), ("\ud800", "�")],
)
def test_control_characters_are_replaced_and_nothing_else(text, shown):
    assert printable(text) == shown


def test_lines_and_tables_show_names_literally(capsys):
    say(HOSTILE)
    say(HOSTILE, stderr=True)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    PlainConsole().print(table)
    out, err = capsys.readouterr()
    assert out.count(SHOWN) == 4 and err == SHOWN + "\n"
    assert "\x1b" not in out


def test_a_reader_that_has_gone_ends_no_work(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        say("nobody reads this")
        PlainConsole().print("nor this")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        console = PlainConsole()
        console.print("nor this")
        console.print("nor that")


def test_counting_gives_the_items_and_no_bar_where_there_is_no_terminal(capsys):
    assert list(counted(range(5), "counting", progress=True)) == [0, 1, 2, 3, 4]
    assert list(counted(iter("ab"), "counting", progress=True, total=2)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
