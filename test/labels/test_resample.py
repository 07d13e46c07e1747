import pytest
import torch
import torch.nn.functional as F

from cliptrase_ros.labels import resample

SIZES = [
    ((3, 5), (30, 47)),
    ((7, 4), (7, 4)),
    ((9, 8), (4, 3)),
    ((1, 1), (5, 6)),
    ((2, 6), (13, 3)),
    ((21, 2), (480, 5)),
    ((11, 3), (7, 4)),
]


@pytest.mark.parametrize('source, target', SIZES)
def test_bands_are_torchs_bilinear(device, source, target):
    maps = torch.randn(3, *source, generator=torch.Generator().manual_seed(0)).to(device)
    expected = F.interpolate(maps[None], size=target, mode='bilinear', align_corners=False)[0]
    for elements in (1, 100, 10**6):
        parts = list(resample.bands(maps, target, elements))
        covered = [row for rows, _ in parts for row in range(rows.start, rows.stop)]
        assert covered == list(range(target[0]))
        assert torch.allclose(torch.cat([b for _, b in parts], 1), expected, atol=1e-5)


def test_rows_of_the_matrix_sum_to_one():
    for source, target in ((1, 9), (5, 5), (8, 3), (3, 20)):
        matrix = resample.bilinear_matrix(source, target)
        assert torch.allclose(matrix.sum(1), torch.ones(target))
        assert torch.allclose(matrix, matrix.flip(0, 1), atol=1e-6)


def test_a_band_keeps_to_its_budget(device):
    maps = torch.zeros(10, 4, 4, device=device)
    assert all(b.numel() <= 2000 for _, b in resample.bands(maps, (64, 32), 2000))


@pytest.mark.parametrize('source, target', SIZES)
def test_of_many_maps_each_pixel_may_have_another(device, source, target):
    maps = torch.randn(4, *source, generator=torch.Generator().manual_seed(0)).to(device)
    which = torch.randint(4, target, generator=torch.Generator().manual_seed(1)).to(device)
    pick = resample.picker(maps, target)
    expected = resample.enlarged(maps, target).gather(0, which[None])[0]
    for rows in (slice(0, target[0]), slice(1, 3), slice(target[0] - 1, target[0])):
        assert torch.allclose(pick(rows, which[rows]), expected[rows], atol=1e-5)


def test_a_band_is_a_small_part_of_many_maps(device):
    maps, size = torch.zeros(100, 21, 28, device=device), (480, 640)
    largest = max(band.numel() for _, band in resample.bands(maps, size))
    assert largest <= resample.band_elements(maps.device) < 100 * 480 * 640 / 2
