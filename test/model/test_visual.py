import numpy as np
import oracle
import pytest
import torch
from open_clip.model import CLIP
from torch import nn
from towers import TINY_HEADS, TINY_PATCH, make_visual

import cliptrase_ros as ct
from cliptrase_ros.model import recipes
from cliptrase_ros.model.visual import Tower


def pooled(visual, images):
    tower = Tower(visual)
    return tower.pool(recipes.run(tower, images, recipes.unchanged(tower)))


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'act_layer': nn.GELU},
        {'pool_type': 'avg'},
        {'pool_type': 'avg', 'final_ln_after_pool': True},
        {'final_ln_after_pool': True},
        {'ls_init_value': 0.3},
        {'no_ln_pre': True},
        {'patch_size': 4},
        {'image_size': (24, 40)},
        {'output_tokens': True},
    ],
)
def test_written_out_tower_is_the_models_own_forward(device, changes):
    visual = make_visual(**changes).to(device)
    size = tuple(side * (changes.get('patch_size', TINY_PATCH)) for side in visual.grid_size)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(device)
    expected = visual(images)
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert torch.allclose(pooled(visual, images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('grid', [(6, 6), (3, 7), (7, 3), (4, 5)])
def test_positions_are_resized_as_published(device, grid):
    visual = make_visual().to(device)
    images = torch.zeros(1, 3, grid[0] * 8, grid[1] * 8, device=device)
    got = Tower(visual).embed(images)[0].cpu().numpy()
    reference = oracle.Oracle(make_visual(), TINY_HEADS, TINY_PATCH)
    expected, _ = reference.embed(np.zeros(images.shape[1:]))
    assert np.abs(got - expected).max() < 1e-5


def test_positions_without_offset_hit_the_corners_evenly(visual, device):
    tower = Tower(visual, position_offset=0.0)
    images = torch.zeros(1, 3, 48, 48, device=device)
    flipped = make_visual().to(device)
    grid = flipped.positional_embedding[1:].view(4, 4, -1).flip(0, 1)
    flipped.positional_embedding.data[1:] = grid.reshape(16, -1)
    turned = Tower(flipped, position_offset=0.0).embed(images)[0, 1:].view(6, 6, -1).flip(0, 1)
    assert torch.allclose(tower.embed(images)[0, 1:].view(6, 6, -1), turned, atol=1e-5)
    with_offset = Tower(visual).embed(images)[0, 1:].view(6, 6, -1)
    assert not torch.allclose(with_offset, turned, atol=1e-3)


def test_positions_of_each_image_can_be_given(visual, device):
    tower = Tower(visual)
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(2)).to(device)
    table = tower.position_table((3, 5))
    both = tower.embed(images, torch.stack([table, 2 * table]))
    assert torch.equal(both[0], tower.embed(images)[0])
    assert torch.equal(both[1], tower.embed(images, 2 * table)[1])
    assert not torch.allclose(both[1], tower.embed(images)[1], atol=1e-3)


def test_position_tables_are_bounded(visual, device):
    tower = Tower(visual)
    for rows in range(1, 20):
        tower.embed(torch.zeros(1, 3, rows * 8, 8, device=device))
    assert len(tower._positions) <= 8


@pytest.mark.parametrize('size', [(30, 32), (32, 30), (0, 32)])
def test_sides_must_be_multiples_of_the_patch(visual, device, size):
    with pytest.raises(ct.ShapeError, match='multiples of 8'):
        Tower(visual).embed(torch.zeros(1, 3, *size, device=device))


def broken(**changes):
    visual = make_visual()
    for name, value in changes.items():
        setattr(visual, name, value)
    return visual


def with_other_attention():
    visual = make_visual()
    visual.transformer.resblocks[1].attn = nn.Identity()
    return visual


def with_other_feed_forward():
    visual = make_visual()
    visual.transformer.resblocks[1].mlp = nn.Sequential(nn.Linear(32, 32))
    return visual


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_norms_and_sums_are_float32_whatever_the_visual_is(device, dtype):
    full = make_visual().to(device)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    expected = pooled(full, images)
    low = make_visual().to(device, dtype)
    own = low(images.to(dtype)).float()
    got = pooled(low, images)
    assert Tower(low).dtype == dtype and got.dtype == torch.float32
    assert float((got - expected).norm()) < float((own - expected).norm())


@pytest.mark.parametrize(
    'make, reason',
    [
        (lambda: nn.Linear(2, 2), 'no conv1'),
        (lambda: make_visual(attentional_pool=True), 'attention pooling'),
        (lambda: make_visual(pool_type='none'), "pooling 'none'"),
        (lambda: make_visual(layers=1), 'fewer than two blocks'),
        (lambda: broken(conv1=nn.Linear(192, 32)), 'convolution'),
        (lambda: broken(conv1=nn.Conv2d(3, 32, 8, 4)), 'squares side by side'),
        (lambda: broken(conv1=nn.Conv2d(3, 32, (8, 4), (8, 4))), 'squares side by side'),
        (with_other_attention, 'MultiheadAttention'),
        (with_other_feed_forward, 'c_fc, gelu, c_proj'),
    ],
)
def test_other_towers_are_refused_with_the_reason(make, reason):
    with pytest.raises(ct.UnsupportedBackbone, match=reason):
        Tower(make())


def test_a_resnet_is_refused():
    model = CLIP(
        embed_dim=16,
        vision_cfg={'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 8},
        text_cfg={'context_length': 8, 'vocab_size': 100, 'width': 8, 'heads': 1, 'layers': 1},
    )
    with pytest.raises(ct.UnsupportedBackbone, match='ResNet'):
        ct.Backbone(model.visual)
