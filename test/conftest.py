"""Fixtures of the engine's tests: small towers with random weights from a seed."""

import numpy as np
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer

import cliptrase_ros as ct

TINY_HEADS, TINY_PATCH = 2, 8


def make_visual(seed=0, **changes):
    """A native open_clip tower: 4 blocks, 32 wide, 2 heads, patch 8, trained on a 4 x 4 grid."""
    options = {
        'image_size': 32,
        'patch_size': TINY_PATCH,
        'width': 32,
        'layers': 4,
        'heads': TINY_HEADS,
        'mlp_ratio': 4,
        'output_dim': 16,
        'act_layer': QuickGELU,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        visual = VisionTransformer(**{**options, **changes})
        # Fresh biases and norms are 0 and 1, which would hide that one is forgotten.
        for parameter in visual.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return visual.eval().requires_grad_(False)


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
    """Five words and two distractors, random."""
    rng = np.random.default_rng(3)
    return ct.Vocabulary.from_embeddings(
        ['a', 'b', 'c', 'd', 'e'], rng.normal(size=(5, 16)), rng.normal(size=(2, 16))
    )


def picture(height, width, seed=0):
    """[H, W, 3] uint8 with smooth blobs, so that patches differ and resemble each other."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode='bilinear')[0]
    noise = torch.from_numpy(rng.normal(0, 6, (3, height, width)))
    return (smooth + noise).clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.fixture(scope='session', autouse=True)
def _own_cache(tmp_path_factory):
    """Keep the word cache of the user out of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield
    patch.undo()
