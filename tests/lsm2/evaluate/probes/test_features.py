"""Features by hand: undefined is NaN and never 0, and intervals see the minutes that are theirs."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsm2.data import Day, DayStore, Signal
from lsm2.data.labels import read_labels
from lsm2.evaluate.probes.features import summary_features, wear_features
from lsm2.importers.table import TableOptions, import_table


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)

    def days():
        for person in range(4):
            for date in ("2024-01-01", "2024-01-02"):
                values = rng.normal(person, 1, (2, 1440)).astype(np.float32)
                values[1] = np.nan
                values[0, 700:800] = np.nan
                yield Day(f"p{person}", date, values)

    return DayStore.write(tmp_path / "store", [Signal("a", "bpm"), Signal("b", "ms")], days())


def labels_of(tmp_path, store, text, **options):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    return read_labels(file, "y", store, **options)


def people(tmp_path, store):
    return labels_of(tmp_path, store, "subject,y\n" + "".join(f"p{i},{i * 1.5}\n" for i in (2, 0, 3, 1)))


def test_a_row_describes_its_own_person_in_the_order_of_the_labels(tmp_path, store):
    features = summary_features(store, people(tmp_path, store))
    expected = [
        np.nanmean(np.stack([store.values(i)[0] for i in store.indices_of([f"p{p}"])])) for p in (2, 0, 3, 1)
    ]
    np.testing.assert_allclose(features[:, 0], expected, rtol=1e-5)


def test_a_signal_never_observed_is_undefined_and_not_zero(tmp_path, store):
    assert np.isnan(summary_features(store, people(tmp_path, store))[:, 1]).all()


def test_wear_sees_gaps_and_no_values(tmp_path, store):
    labels = people(tmp_path, store)
    features = wear_features(store, labels)
    assert np.isfinite(features).all()
    assert (features == features[0]).all()
    assert features[0, 0] == pytest.approx(1 - 100 / 1440)


def test_a_day_is_described_by_that_day_alone(tmp_path, store):
    rows = "".join(f"p{i},2024-01-0{d},{i % 2}\n" for i in range(4) for d in (1, 2))
    features = summary_features(store, labels_of(tmp_path, store, "subject,date,y\n" + rows))
    np.testing.assert_allclose(
        features[3, 0], np.nanmean(store.values(store.index("p1/2024-01-02"))[0]), rtol=1e-5
    )


def test_an_interval_crosses_midnight_and_one_without_data_is_all_nan(tmp_path, store):
    rows = "".join(f"p{i},2024-01-01T23:50,2024-01-02T00:10,{i % 2}\n" for i in range(4))
    rows += "p0,2024-01-01T12:00,2024-01-01T12:30,0\n"
    labels = labels_of(tmp_path, store, "subject,start,end,y\n" + rows)
    features = summary_features(store, labels)
    first, second = (store.values(store.index(f"p2/2024-01-0{day}"))[0] for day in (1, 2))
    inside = np.concatenate([first[-10:], second[:10]])
    np.testing.assert_allclose(features[2, [0, 2]], [inside.mean(), inside.std()], rtol=1e-5)
    assert np.isnan(features[4]).all()
    assert np.isfinite(features[:4]).any()
    assert wear_features(store, labels).shape[0] == 5


def test_short_days_have_features_too(small_store, tmp_path):
    labels = labels_of(tmp_path, small_store, "subject,y\np0,0\np1,1\np2,0\np3,1\n")
    assert np.isfinite(summary_features(small_store, labels)[:, 0]).all()


@pytest.mark.slow
def test_age_and_activity_are_in_the_features_of_real_people(tmp_path, shared_data, mmash_intervals):
    """On other people, ridge finds age (r above .7) and logistic regression activities (F1 above .4)."""
    pytest.importorskip("sklearn")
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import f1_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def per_fold(labels, features, head, score):
        model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), head)
        folds = GroupKFold(5, shuffle=True, random_state=0).split(features, groups=labels.subjects)
        return np.mean(
            [
                score(
                    labels.values[test],
                    model.fit(features[train], labels.values[train]).predict(features[test]),
                )
                for train, test in folds
            ]
        )

    nhanes = import_table(
        shared_data("nhanes_2003/nhanes_minute.parquet"),
        tmp_path / "nhanes",
        TableOptions(log1p=("activity",)),
    )
    age = read_labels(shared_data("nhanes_2003/labels.csv"), "age_years", nhanes)
    ridge = RidgeCV(10.0 ** np.arange(-1, 6))
    assert per_fold(age, summary_features(nhanes, age), ridge, lambda a, b: np.corrcoef(a, b)[0, 1]) > 0.7

    mmash = import_table(shared_data("mmash/mmash_minute.parquet"), tmp_path / "mmash")
    diary = tmp_path / "diary.parquet"
    pq.write_table(mmash_intervals(shared_data("mmash/activity_diary.csv")), diary)
    activity = read_labels(diary, "activity", mmash, every_minutes=10)
    logistic = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    macro = per_fold(
        activity, summary_features(mmash, activity), logistic, lambda a, b: f1_score(a, b, average="macro")
    )
    assert macro > 0.4
