import pytest

from tests.alone import alone
from tests.crash.killing import kill_writers

STORES = ["file:///{}/store", "sqlite:///{}/store.db", "lmdb:///{}/store"]


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize(("worker", "kills"), [("embeddings", 200), ("answers", 200), ("overwrites", 50)])
def test_nothing_reported_is_lost_and_nothing_is_damaged(tmp_path, url, worker, kills):
    print(alone(kill_writers, worker, url.format(tmp_path), kills, 1, timeout=280))
