"""The pages have the tables of the committed results."""

from __future__ import annotations

import re

from benchmarks import pages


def test_the_pages_have_the_tables_of_the_committed_results():
    texts = [page.read_text(encoding="utf-8") for page in pages.PAGES]
    names = re.findall("<!-- table: (.*?) -->", "".join(texts))
    assert sorted(names) == sorted(pages.TABLES)
    for text in texts:
        assert pages.fill(text) == text, "run `python -m benchmarks.pages`"
