"""What the tests of fills share."""

import time

import pytest


@pytest.fixture
def fastest():
    """Seconds of the fastest of five fills of a day, after one that may prepare something."""

    def measure(fill, day):
        fill(day)
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            fill(day)
            seconds.append(time.perf_counter() - began)
        print(f"{1000 * min(seconds):.1f} ms")
        return min(seconds)

    return measure
