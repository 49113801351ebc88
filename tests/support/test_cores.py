"""Linear algebra of small matrices uses one thread."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from novelty_metric.support.cores import one_blas_thread


def blas_threads() -> set[int]:
    found = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    assert found, "no BLAS is loaded"
    return found


def test_one_blas_thread_inside_and_the_previous_number_after() -> None:
    assert scipy.linalg.expm(np.zeros((2, 2))).trace() == 2  # SciPy has its own BLAS
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == before
