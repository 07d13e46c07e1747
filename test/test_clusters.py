import math

import numpy as np
import oracle
import pytest
import scipy.ndimage
import torch
from sklearn.cluster import DBSCAN

from cliptrase_ros import clusters


def blobs(count, width, seed, spread=1.0):
    """Points around a few centres, with strays between: core, border and noise points."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (rng.integers(1, 7), width))
    points = centres[rng.integers(0, len(centres), count)] + rng.normal(0, spread, (count, width))
    return points.astype(np.float32)


@pytest.mark.parametrize('seed', range(40))
def test_dbscan_is_scikit_learns(device, seed):
    rng = np.random.default_rng(1000 + seed)
    width = int(rng.integers(1, 6))
    points = blobs(int(rng.integers(2, 150)), width, seed)
    eps, min_samples = float(rng.uniform(0.2, 2.0) * math.sqrt(width)), int(rng.integers(1, 9))
    expected = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points)
    got = clusters.dbscan(torch.from_numpy(points).to(device), eps, min_samples)
    assert got.cpu().tolist() == expected.tolist()


def test_dbscan_follows_a_long_chain_in_any_order(device):
    line = torch.arange(500.0, device=device)[:, None]
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0)).to(device)
    for points in (line, line.flip(0), line[order]):
        assert clusters.dbscan(points, 1.0, 2).tolist() == [0] * 500
    halves = torch.cat([line, line + 1000])
    assert clusters.dbscan(halves, 1.0, 2).tolist() == [0] * 500 + [1] * 500


def test_a_border_point_joins_the_cluster_found_first(device):
    # 1.0 is within reach of a core point of either side, and no core point itself.
    points = [2.0, 2.1, 2.2, 2.3, 1.0, 0.0, -0.1, -0.2, -0.3]
    rows = torch.tensor(points, device=device)[:, None]
    expected = DBSCAN(eps=1.05, min_samples=5).fit_predict(rows.cpu().numpy())
    assert clusters.dbscan(rows, 1.05, 5).cpu().tolist() == expected.tolist()
    assert 0 in expected and 1 in expected


def test_points_far_apart_are_noise_and_equal_points_one_cluster(device):
    assert clusters.dbscan(100 * torch.eye(5, device=device), 1.0, 2).tolist() == [-1] * 5
    assert clusters.dbscan(torch.ones(5, 3, device=device), 0.1, 5).tolist() == [0] * 5
    assert clusters.dbscan(torch.ones(1, 3, device=device), 0.1, 1).tolist() == [0]


@pytest.mark.parametrize(
    'patches, expected',
    [
        (196, (0.7, 3)),
        (441, (1.1, 7)),
        (100, (0.5, 3)),
        (588, (0.05 * 588**0.5, 9)),
        (1, (0.05, 3)),
    ],
)
def test_parameters_are_the_published_pairs_and_the_rule_elsewhere(patches, expected):
    assert clusters.dbscan_parameters(patches) == pytest.approx(expected)


def test_affinity_takes_the_cls_row_off_and_cuts_at_zero(device):
    correlation = torch.tensor([[1.0, 0.2, 0.5], [0.2, 1.0, 0.4], [0.5, 0.4, 1.0]], device=device)
    expected = torch.tensor([[0.8, 0.0], [0.2, 0.5]], device=device)
    assert torch.allclose(clusters.denoised_affinity(correlation), expected)
    assert torch.equal(clusters.denoised_affinity(correlation, 0.0), correlation[1:, 1:])


@pytest.mark.parametrize('size', [1, 3, 7, 15])
@pytest.mark.parametrize('shape', [(2, 4, 4), (3, 20, 9), (1, 5, 31)])
def test_median_is_scipys(device, size, shape):
    maps = np.random.default_rng(size).random(shape).astype(np.float32)
    got = clusters.median_filter(torch.from_numpy(maps).to(device), size).cpu().numpy()
    expected = [scipy.ndimage.median_filter(m, size=size, mode='reflect') for m in maps]
    assert np.array_equal(got, expected)


def test_regions_follow_the_equations_and_turn_with_the_grid(device):
    rng = np.random.default_rng(0)
    rows = rng.random((15, 15))
    labels = np.array([0, 0, 1, -1, 2, 2, 0, 1, 1, 1, -1, 2, 0, 0, 2])
    expected = oracle.region_of_pixels(rows, labels, (3, 5), (31, 44))

    def regions(rows, labels, grid, size):
        rows = torch.from_numpy(rows).float().to(device)
        maps = clusters.region_maps(rows, torch.from_numpy(labels).to(device), grid)
        return clusters.regions(maps, size).cpu().numpy()

    got = regions(rows, labels, (3, 5), (31, 44))
    assert (got == expected).mean() > 0.999

    turn = np.arange(15).reshape(3, 5).T.ravel()
    turned = regions(rows[turn][:, turn], labels[turn], (5, 3), (44, 31))
    assert (got == turned.T).mean() > 0.999


def test_only_noise_makes_no_region(device):
    labels = torch.full((6,), -1, device=device)
    assert clusters.region_maps(torch.rand(6, 6, device=device), labels, (2, 3)).shape[0] == 0


def test_upsampling_1_keeps_the_grid(device):
    rows, labels = torch.rand(6, 6, device=device), torch.zeros(6, dtype=torch.long, device=device)
    maps = clusters.region_maps(rows, labels, (2, 3), upsampling=1, median=1)
    assert torch.allclose(maps[0].flatten(), rows.mean(0))
