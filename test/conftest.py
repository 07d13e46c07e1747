"""Fixtures of all tests."""

import ctypes
import os
import signal

if 'PYTEST_XDIST_WORKER' in os.environ:
    # The threads of parallel test workers would wait for each other. torch reads this variable
    # only once.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    # Linux: a worker ends when the run ends, for any reason (PR_SET_PDEATHSIG of prctl.h).
    if hasattr(ctypes.CDLL(None), 'prctl'):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)

import numpy as np
import pytest
import torch
from towers import make_visual

import cliptrase_ros as ct


@pytest.fixture(autouse=True)
def _seeded():
    """Seed torch, so that each test gets the same random numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture(params=['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu'])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def visual(device):
    return make_visual().to(device)


@pytest.fixture
def backbone(visual):
    return ct.Backbone(visual, logit_scale=100.0)


@pytest.fixture
def words():
    """Return five words and two distractors with random embeddings."""
    rng = np.random.default_rng(3)
    return ct.Vocabulary.from_embeddings(
        ['a', 'b', 'c', 'd', 'e'], rng.normal(size=(5, 16)), rng.normal(size=(2, 16))
    )


@pytest.fixture(scope='session', autouse=True)
def _own_cache(tmp_path_factory):
    """Use an empty word cache instead of the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield
    patch.undo()
