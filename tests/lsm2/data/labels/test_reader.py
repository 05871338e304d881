"""What a label file says of people, days and intervals, and what is said of one that cannot be used."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lsm2.data.labels import read_labels
from lsm2.errors import InputError


def of_people(*values, header="subject,y"):
    return f"{header}\n" + "".join(f"p{person},{value}\n" for person, value in enumerate(values))


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        ((0, 1, 0, 1), "binary", ("0", "1")),
        (("true", "false", "true", "false"), "binary", ("0", "1")),
        (("f", "m", "m", "f"), "binary", ("f", "m")),
        ((1.5, 2, 3, 4), "regression", ()),
    ],
)
def test_the_kind_is_found_from_the_column(read, values, kind, classes):
    labels = read(of_people(*values))
    assert (labels.kind, labels.classes, labels.level) == (kind, classes, "person")
    assert labels.subjects == ("p0", "p1", "p2", "p3")


def test_few_integers_are_classes_by_size_and_many_are_numbers(read):
    days = [(person, day) for person in range(4) for day in (1, 2)]
    few = "".join(f"p{p},2024-01-0{d},{(10, 9, 8)[(p + d) % 3]}\n" for p, d in days)
    labels = read("subject,date,y\n" + few)
    assert (labels.kind, labels.classes) == ("multiclass", ("8", "9", "10"))
    assert read("subject,date,y\n" + few, kind="ordinal").kind == "ordinal"
    spans = "".join(f"p{i % 4},2024-01-01T{i:02}:00,2024-01-01T{i:02}:30,{i}\n" for i in range(11))
    assert read("subject,start,end,y\n" + spans).kind == "regression"


def test_missing_labels_and_days_that_are_not_there_are_left_out_and_counted(read):
    rows = "p0,2024-01-01,0\np1,2024-01-01,1\np2,2024-01-02,0\np3,2024-01-02,1\n"
    rows += "p0,2024-01-02,NA\np1,2023-01-01,1\n"
    labels = read("subject,date,y\n" + rows)
    assert labels.dates == ("2024-01-01", "2024-01-01", "2024-01-02", "2024-01-02")
    assert labels.left_out == {"label missing": 1, "on a day that the store has not": 1}


def test_intervals_are_minutes_of_wall_clock_and_are_cut_into_windows(read):
    rows = "".join(f"p{i},2024-01-01 23:50,2024-01-02 00:15,{i % 2}\n" for i in range(4))
    labels = read(
        "subject,start,end,y\n" + rows + "p0,2024-01-01 10:00,2024-01-01 10:05,1\n", every_minutes=10
    )
    midnight = int(np.datetime64("2024-01-02", "m").astype(np.int64))
    assert labels.spans is not None
    assert labels.spans[:2].tolist() == [[midnight - 10, midnight], [midnight, midnight + 10]]
    assert len(labels.values) == 8
    assert labels.left_out == {"shorter than 10 minutes": 1}


def test_covariates_are_numbers_or_indicators_with_nan_where_missing(read):
    text = "subject,y,age,sex,site\np0,0,30,f,a\np1,1,,m,b\np2,0,50,,c\np3,1,60,m,a\n"
    labels = read(text, covariates=("age", "sex", "site"))
    assert labels.covariate_names == ("age", "sex=m", "site=a", "site=b", "site=c")
    np.testing.assert_array_equal(labels.covariates[:, 0], [30, np.nan, 50, 60])
    np.testing.assert_array_equal(labels.covariates[:, 1], [0, 1, np.nan, 1])


def test_parquet_gives_the_same(tmp_path, store, read):
    file = tmp_path / "labels.parquet"
    table = pa.table(
        {"subject": pa.array(["p0", "p1", "p2", "p3"]).dictionary_encode(), "y": [0, 1, None, 1]}
    )
    table = table.append_column("z", pa.array([1.0, 2.0, 3.0, 5.5]))
    pa.parquet.write_table(table, file)
    np.testing.assert_array_equal(read_labels(file, "z", store).values, read(of_people(1, 2, 3, 5.5)).values)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "is empty"),
        ("subject,y\n", {}, "no rows"),
        ("subject,y,y\np0,1,1\n", {}, "two columns named 'y'"),
        ("person,y\np0,1\n", {}, "no column 'subject'; its columns are person, y"),
        ("subject,z\np0,1\n", {}, "no column 'y'.*--target"),
        ("subject,start,y\np0,2024-01-01,1\n", {}, "'start' but no 'end'"),
        ("subject,y\np0,1\nq1,0\nq2,1\n", {}, r"2 people \(of 3\).*'q1', 'q2'.*like 'p0'"),
        ("subject,y\np0,1\n,0\n", {}, "row 3, column 'subject' is empty"),
        ("subject,y\np0,1\np0,0\n", {}, r"row 3: the person of 'p0' has a label before, in row 2"),
        ("subject,date,y\np0,2024-01-01,1\np0,2024-01-01,0\n", {}, "row 3: the day of 'p0'"),
        ("subject,date,y\np0,2024-01-01,1\np1,01.02.2024,0\n", {}, "row 3, column 'date': 01.02.2024"),
        ("subject,start,end,y\np0,2024-01-01 10:00,10:05,1\n", {}, "row 2, column 'end': '10:05'"),
        ("subject,start,end,y\np0,2024-01-01 10:00,2024-01-01 09:00,1\n", {}, "row 2: the interval"),
        (of_people(1, 1, 1, 1), {}, "all 4 labels of 'y' are 1"),
        (of_people("a", "b", "a", "a"), {}, "class 'b' of 'y' has one person"),
        (of_people("inf", 2, 3, 4), {}, "row 2, column 'y' is infinite"),
        (of_people("", "", "", ""), {}, "no row to use.*4 label missing"),
        (of_people("a", "b", "a", "b"), {"kind": "regression"}, "holds text such as"),
        (of_people(1, 2, 3, 1), {"kind": "binary"}, "3 different values"),
        (of_people(1, 2, 2, 1), {"kind": "ordinal"}, "--kind binary"),
        (of_people(1, 2, 2, 1), {"kind": "other"}, "--kind is 'other'"),
        (of_people(1, 2, 2, 1), {"every_minutes": 10}, "labels of persons"),
        (of_people(1, 2, 2, 1), {"covariates": ("y",)}, "cannot predict itself"),
        (of_people(1, 2, 2, 1), {"covariates": ("age",)}, "no column 'age'.*--covariates"),
    ],
)
def test_what_cannot_be_used_is_said_in_words(read, text, options, words):
    with pytest.raises(InputError, match=words):
        read(text, **options)


def test_a_stray_word_among_numbers_is_named(read):
    rows = "".join(f"p{i % 4},2024-01-01T{i:02}:00,2024-01-01T{i:02}:30,{i}\n" for i in range(11))
    with pytest.raises(InputError, match=r"row 13, column 'y': '1,5' is not a number"):
        read("subject,start,end,y\n" + rows + 'p0,2024-01-01T20:00,2024-01-01T20:30,"1,5"\n')


def test_a_file_that_is_not_there_and_one_of_another_kind(tmp_path, store):
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "absent.csv", "y", store)
    with pytest.raises(InputError, match="is a folder"):
        read_labels(tmp_path, "y", store)
    (tmp_path / "labels.txt").write_text("subject,y\n")
    with pytest.raises(InputError, match="must end in"):
        read_labels(tmp_path / "labels.txt", "y", store)
