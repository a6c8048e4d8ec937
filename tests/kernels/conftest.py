import pytest
import torch

from spd_lightning.kernels import build


@pytest.fixture
def library():
    """The compiled kernels."""
    built = build()
    if built.library is None:
        pytest.skip(built.reason)
    return built.library


@pytest.fixture(params=[True, False], ids=["compiled", "pytorch"])
def compiled(request) -> bool:
    """Both implementations in turn."""
    if request.param:
        request.getfixturevalue("library")
    return request.param


@pytest.fixture
def with_threads():
    """Calls a function under some number of threads."""
    before = torch.get_num_threads()

    def call(count, function):
        torch.set_num_threads(count)
        return function()

    yield call
    torch.set_num_threads(before)
