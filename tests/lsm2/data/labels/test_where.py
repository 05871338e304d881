"""Conditions on rows, as people write them, and nothing else."""

import pytest

from lsm2.errors import InputError

TEXT = """subject,y,age,sex,blood pressure,adult
p0,0,30,f,120,true
p1,1,,m,130,false
p2,0.5,50,m,,true
p3,2,60,f,110,true
"""


@pytest.mark.parametrize(
    ("where", "people"),
    [
        ("age >= 30", ("p0", "p2", "p3")),
        ("not age >= 50", ("p0",)),
        ("30 <= age < 60 or age == 60", ("p0", "p2", "p3")),
        ("sex == 'f' and age > -1", ("p0", "p3")),
        ("sex in ['f'] or age == 50", ("p0", "p2", "p3")),
        ("age not in [50]", ("p0", "p3")),
        ("`blood pressure` < 125", ("p0", "p3")),
        ("adult", ("p0", "p2", "p3")),
        ("50 <= age", ("p2", "p3")),
    ],
)
def test_rows_count_where_it_is_true(read, where, people):
    if len(people) == 1:
        with pytest.raises(InputError, match="nothing to tell apart"):
            read(TEXT, where=where, kind="regression")
        return
    labels = read(TEXT, where=where, kind="regression")
    assert labels.subjects == people
    assert labels.left_out == {f"not where {where}": 4 - len(people)}


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("weight > 3", "no column 'weight'; its columns are subject, y, age"),
        ("age > 'a'", r"compares age \(numbers\) with 'a' \(text\)"),
        ("age >", "cannot be read"),
        ("1 > 0", "names no column"),
        ("age", "true or false"),
        ("age + 1 > 3", "holds 'age \\+ 1'"),
        ("age.real > 3", "holds 'age.real'"),
        ("age > 3 & age < 5", "and, or, not"),
        ("age == 30 if 1 else 2", "holds"),
        ("(lambda: age)() > 1", "holds"),
        ("`blood pressure` > 'a'", "`blood pressure`"),
    ],
)
def test_anything_else_is_refused_in_words(read, where, words):
    with pytest.raises(InputError, match=words):
        read(TEXT, where=where)
