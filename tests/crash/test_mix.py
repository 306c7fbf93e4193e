import pytest

from tests.alone import alone
from tests.crash.mixing import mix_all
from tests.crash.test_kill import STORES


@pytest.mark.parametrize("url", STORES)
def test_eight_processes_share_the_same_keys(tmp_path, url):
    alone(mix_all, url.format(tmp_path), tmp_path)
