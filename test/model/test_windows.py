import itertools

import pytest
import torch
import torch.nn.functional as F

from cliptrase_ros.model import windows


@pytest.mark.parametrize(
    'size, short, multiple, expected',
    [
        ((480, 640), 336, 16, (336, 448)),
        ((640, 480), 336, 16, (448, 336)),
        ((1080, 1920), 336, 16, (336, 592)),
        ((1080, 1920), 336, 1, (336, 597)),
        ((10, 1000), 32, 16, (32, 3200)),
        ((3, 2), 10, 14, (14, 14)),
    ],
)
def test_working_size(size, short, multiple, expected):
    assert windows.working_size(*size, short, multiple) == expected


@pytest.mark.parametrize(
    'size, short, expected',
    [
        ((375, 500), 336, (336, 448)),
        ((333, 500), 336, (336, 505)),  # 504.504 ..
        ((1024, 2048), 560, (560, 1120)),
        ((100, 700), 336, (293, 2048)),
        ((700, 100), 336, (2048, 293)),
    ],
)
def test_the_size_of_the_sliding_protocol(size, short, expected):
    assert windows.sliding_size(*size, short) == expected


@pytest.mark.parametrize('length', [224, 225, 300, 336, 337, 448, 596, 1280])
def test_windows_are_those_of_the_sliding_protocol(length):
    starts = windows.window_starts(length, 224, 112)
    assert len(starts) == max(length - 224 + 111, 0) // 112 + 1
    assert starts[0] == 0 and starts[-1] + 224 == length
    assert all(b - a <= 112 for a, b in itertools.pairwise(starts))


def test_merging_averages_overlaps(device):
    offsets = windows.window_offsets((12, 20), 8, 4)
    assert offsets[:3] == [(0, 0), (0, 4), (0, 8)] and len(offsets) == 2 * 4
    ones = torch.ones(len(offsets), 2, 4, 4, device=device)
    whole = torch.ones(2, 12, 20, device=device)
    assert torch.allclose(windows.merge(ones, offsets, 8, (12, 20)), whole)

    tiles = torch.randn(len(offsets), 2, 4, 4, generator=torch.Generator().manual_seed(0))
    merged = windows.merge(tiles.to(device), offsets, 8, (12, 20)).cpu()
    large = F.interpolate(tiles, size=(8, 8), mode='bilinear', align_corners=False)
    y, x = 5, 9
    over = [
        large[n, :, y - top, x - left]
        for n, (top, left) in enumerate(offsets)
        if top <= y < top + 8 and left <= x < left + 8
    ]
    assert len(over) == 4
    assert torch.allclose(merged[:, y, x], torch.stack(over).mean(0), atol=1e-6)


def test_crops_are_where_the_offsets_say(device):
    image = torch.arange(2 * 6 * 9.0, device=device).view(2, 6, 9)
    tiles = windows.crop(image, [(0, 0), (2, 5)], 4)
    assert torch.equal(tiles[1], image[:, 2:6, 5:9])
