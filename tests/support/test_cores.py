"""Linear algebra of small matrices stays on one thread."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from novelty_metric.support.cores import one_blas_thread


def blas_threads() -> set[int]:
    found = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    assert found, "no BLAS is loaded"
    return found


def test_one_blas_thread_and_as_many_as_before_at_the_end() -> None:
    assert scipy.linalg.expm(np.zeros((2, 2))).trace() == 2  # SciPy has a BLAS of its own
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == before
