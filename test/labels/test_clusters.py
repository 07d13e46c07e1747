import math
from functools import partial

import numpy as np
import oracle
import pytest
import scipy.ndimage
import scipy.sparse.csgraph
import torch
from sklearn.cluster import DBSCAN

from cliptrase_ros.labels import clusters, components, refine
from cliptrase_ros.labels.median import median_filter, merged
from cliptrase_ros.labels.resample import bands


def blobs(count, width, seed, spread=1.0):
    """Return points around a few centres and some between them: core, border and noise points."""
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
    # 1.0 is near a core point on each side, but is not a core point itself.
    points = [2.0, 2.1, 2.2, 2.3, 1.0, 0.0, -0.1, -0.2, -0.3]
    rows = torch.tensor(points, device=device)[:, None]
    expected = DBSCAN(eps=1.05, min_samples=5).fit_predict(rows.cpu().numpy())
    assert clusters.dbscan(rows, 1.05, 5).cpu().tolist() == expected.tolist()
    assert 0 in expected and 1 in expected


def test_points_far_apart_are_noise_and_equal_points_one_cluster(device):
    assert clusters.dbscan(100 * torch.eye(5, device=device), 1.0, 2).tolist() == [-1] * 5
    assert clusters.dbscan(torch.ones(5, 3, device=device), 0.1, 5).tolist() == [0] * 5
    assert clusters.dbscan(torch.ones(1, 3, device=device), 0.1, 1).tolist() == [0]


def graphs():
    """Return names and edges of connected graphs of 0 .. 599, hard cases for label propagation."""
    rng = np.random.default_rng(0)
    count = 600
    path = [(n, n + 1) for n in range(count - 1)]
    bits = np.argsort([int(f'{n:010b}'[::-1], 2) for n in range(count)])
    zigzag = np.array([n // 2 if n % 2 else count - 1 - n // 2 for n in range(count)])
    orders = {
        'in order': np.arange(count),
        'backwards': np.arange(count)[::-1],
        'by turned bits': np.argsort(bits),
        'from both ends': zigzag,
        'at random': rng.permutation(count),
    }
    comb = [(n, n + 1) for n in range(0, 299)] + [(n, n + 300) for n in range(300)]
    shapes = {
        'path': path,
        'star': [(0, n) for n in range(1, count)],
        'last star': [(count - 1, n) for n in range(count - 1)],
        'comb': comb,
        'caterpillar': [(n, n + 1) for n in range(59)] + [(n % 60, n) for n in range(60, count)],
        'long teeth': [(25 * n, 25 * n + 25) for n in range(23)]
        + [(n, n + 1) for n in range(count - 1) if n % 25 != 24],
        'tree': [((n - 1) // 2, n) for n in range(1, count)],
        'random tree': [(int(rng.integers(n)), n) for n in range(1, count)],
        'two': [edge for edge in path if edge[0] != 299],
        'random': [tuple(edge) for edge in rng.integers(0, count, (600, 2))],
        'dense': [tuple(edge) for edge in rng.integers(0, count, (3000, 2))],
    }
    for shape, edges in shapes.items():
        for order, numbers in orders.items():
            yield pytest.param([(numbers[a], numbers[b]) for a, b in edges], id=f'{shape} {order}')


@pytest.mark.parametrize('edges', list(graphs()))
def test_rounds_suffice_for_components_of_unkind_graphs(device, monkeypatch, edges):
    monkeypatch.setattr(components, 'may_look', lambda x: False)
    count = 600
    near = np.eye(count, dtype=bool)
    a, b = np.array(edges).T
    near[a, b] = near[b, a] = True
    _, expected = scipy.sparse.csgraph.connected_components(near)
    smallest = np.array([np.flatnonzero(expected == k)[0] for k in expected])
    far = torch.from_numpy(np.where(near, 0.0, count)).float().to(device)
    everyone = torch.ones(count, dtype=torch.bool, device=device)
    got = components.components(lambda x: torch.maximum(far, x).amin(1), everyone, count)
    assert got.tolist() == smallest.tolist()


@pytest.mark.parametrize('seed', range(20))
def test_dbscan_in_a_fixed_number_of_rounds_is_scikit_learns(device, monkeypatch, seed):
    monkeypatch.setattr(components, 'may_look', lambda x: False)
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 4))
    points = blobs(int(rng.integers(300, 600)), width, seed, spread=2.0)
    eps, min_samples = float(rng.uniform(0.1, 0.6) * math.sqrt(width)), int(rng.integers(1, 9))
    expected = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points)
    got = clusters.dbscan(torch.from_numpy(points).to(device), eps, min_samples)
    assert got.cpu().tolist() == expected.tolist()


@pytest.mark.parametrize('first, second', [(0, 3), (1, 1), (1, 6), (4, 4), (7, 14), (5, 12)])
def test_merged_stacks_are_sorted(first, second):
    """A network that merges zeros and ones correctly merges all values (the 0-1 principle)."""
    for zeros in range(first + 1):
        for others in range(second + 1):
            a = [torch.tensor(n >= zeros) for n in range(first)]
            b = [torch.tensor(n >= others) for n in range(second)]
            got = [bool(x) for x in merged(a, b)]
            assert got == sorted(map(bool, a + b))


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


@pytest.mark.parametrize('size', [1, 3, 5, 7, 9, 11, 13, 15])
@pytest.mark.parametrize('shape', [(2, 4, 4), (3, 20, 9), (1, 5, 31), (2, 1, 1)])
def test_median_is_scipys(device, size, shape):
    # Few different values, so that many are equal.
    maps = np.random.default_rng(size).integers(0, 30, shape).astype(np.float32)
    got = median_filter(torch.from_numpy(maps).to(device), size).cpu().numpy()
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


@pytest.mark.parametrize('room', [True, False])
def test_only_noise_makes_no_region(device, monkeypatch, room):
    monkeypatch.setattr(clusters, 'may_look', lambda x: room)
    labels = torch.full((6,), -1, device=device)
    maps = clusters.region_maps(torch.rand(6, 6, device=device), labels, (2, 3))
    assert maps.shape == (1 if room else clusters.MOST_REGIONS, 8, 12)
    assert (clusters.regions(maps, (5, 7)) == -1).all()


@pytest.mark.parametrize('rule', ['none', 'guided'])
def test_room_for_more_regions_changes_none(device, monkeypatch, rule):
    rows = torch.rand(15, 15, device=device)
    rows[0] = 0  # a cluster whose map is 0 never wins, not even against reserved empty maps
    labels = torch.tensor([1, 0, 2, 0, 0, 2, 2, 0, -1, 0, 0, 2, 0, 0, 2], device=device)
    image = torch.randint(256, (3, 31, 44), device=device, dtype=torch.uint8)
    guided = partial(refine.guided_rows, image=image, grid=(12, 20))
    enlarge = {'none': bands, 'guided': partial(refine.along, rule=guided, most=12)}[rule]

    def regions():
        maps = clusters.region_maps(rows, labels, (3, 5))
        return clusters.regions(maps, (31, 44), enlarge)

    exact = regions()
    assert set(exact.unique().tolist()) == {0, 2}
    monkeypatch.setattr(clusters, 'may_look', lambda x: False)
    assert torch.equal(regions(), exact)


def test_clusters_beyond_the_room_have_no_region(device, monkeypatch):
    rows, labels = torch.eye(70, device=device), torch.arange(70, device=device)
    monkeypatch.setattr(clusters, 'may_look', lambda x: False)
    maps = clusters.region_maps(rows, labels, (7, 10), upsampling=1, median=1)
    # At the patches of these clusters all maps are 0, so they join the first region.
    expected = torch.where(labels < clusters.MOST_REGIONS, labels, 0).view(7, 10)
    assert torch.equal(clusters.regions(maps, (7, 10)), expected)


def test_upsampling_1_keeps_the_grid(device):
    rows, labels = torch.rand(6, 6, device=device), torch.zeros(6, dtype=torch.long, device=device)
    maps = clusters.region_maps(rows, labels, (2, 3), upsampling=1, median=1)
    assert torch.allclose(maps[0].flatten(), rows.mean(0))
