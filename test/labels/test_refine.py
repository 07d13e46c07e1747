import numpy as np
import oracle
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from towers import picture

from cliptrase_ros.labels import refine, resample


def random_maps(device, *shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def colors(device, height, width, seed=0):
    """Return a picture [3, H, W] uint8."""
    return torch.from_numpy(picture(height, width, seed)).permute(2, 0, 1).to(device)


def numbers(tensor):
    return tensor.double().cpu().numpy()


@pytest.mark.parametrize('steps, dilations', [(1, (1, 2)), (3, (2,)), (2, (4, 1))])
@pytest.mark.parametrize('shape', [(9, 13), (13, 6)])
def test_pamr_follows_the_equation(device, steps, dilations, shape):
    maps, image = random_maps(device, 2, *shape), colors(device, *shape).float()
    got = refine.pamr(maps, image, steps, dilations)
    expected = oracle.pamr(numbers(maps), numbers(image), steps, dilations)
    assert np.abs(numbers(got) - expected).max() < 1e-5


def test_weights_of_neighbours_sum_to_one_and_are_equal_where_all_is_flat(device):
    image = colors(device, 40, 52).float()
    image[:, :, 30:] = 77
    weights = refine.affinity(image, (8, 16))
    assert weights.shape == (16, 40, 52)
    assert torch.allclose(weights.sum(0), torch.ones(40, 52, device=device), atol=1e-6)
    assert torch.allclose(weights[:, :, 46:], weights.new_tensor(1 / 16))
    assert not torch.allclose(weights[:, :, :30], weights.new_tensor(1 / 16), atol=1e-2)


def test_pamr_does_not_depend_on_the_range_of_colours(device):
    maps, image = random_maps(device, 3, 20, 31), colors(device, 20, 31).float()
    tinted = image * torch.tensor([0.01, 2.0, 1.0], device=device)[:, None, None] - 5
    assert torch.allclose(refine.pamr(maps, image), refine.pamr(maps, tinted), atol=1e-4)


def test_pamr_stays_in_the_range_of_each_map(device):
    maps = random_maps(device, 3, 20, 31)
    maps[1] = 0.25
    got = refine.pamr(maps, colors(device, 20, 31).float())
    for before, after in zip(maps, got, strict=True):
        assert before.min() - 1e-6 <= after.min() and after.max() <= before.max() + 1e-6
    assert torch.allclose(got[1], maps[1])


def test_pamr_of_a_turned_picture_is_turned(device):
    maps, image = random_maps(device, 3, 20, 31), colors(device, 20, 31).float()
    turned = refine.pamr(maps.transpose(1, 2), image.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(refine.pamr(maps, image), turned, atol=1e-5)


class Largest(TorchDispatchMode):
    """Records the number of values in the largest tensor that an operation created."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_pamr_never_holds_the_neighbours_of_all_maps(device):
    maps, image = random_maps(device, 40, 30, 41), colors(device, 30, 41).float()
    with Largest() as largest:
        refine.pamr(maps, image)
    assert maps.numel() <= largest.numel <= 40 * (30 + 32) * (41 + 32) < 16 * maps.numel() / 4


def test_maps_in_parts_are_the_maps_at_once(device, monkeypatch):
    maps, image = random_maps(device, 5, 12, 17), colors(device, 12, 17).float()
    whole = refine.pamr(maps, image)
    spread, sizes = refine._spread, []
    monkeypatch.setattr(
        refine, '_spread', lambda part, *a: (sizes.append(len(part)), spread(part, *a))[1]
    )
    for elements, expected in ((1, [1] * 5), (2 * 12 * 17, [2, 2, 1])):
        monkeypatch.setattr(refine, 'CHUNK_ELEMENTS', elements)
        assert torch.equal(refine.pamr(maps, image), whole)
        assert sizes == expected
        sizes.clear()


@pytest.mark.parametrize('radius, epsilon', [(1, 1e-2), (3, 1e-4), (20, 1e-3)])
@pytest.mark.parametrize('shape', [(8, 13), (11, 5)])
def test_guided_follows_the_equations(device, radius, epsilon, shape):
    # Scores far from 0, like scaled cosines.
    maps, guide = 25 + random_maps(device, 2, *shape), colors(device, *shape).float() / 255
    got = numbers(refine.guided(maps, guide, radius, epsilon))
    for n in range(2):
        slopes, offset = oracle.guided(numbers(maps[n]), numbers(guide), radius, epsilon)
        assert np.abs(got[:3, n] - slopes).max() < 1e-3 * np.abs(slopes).max()
        scores = (got[:3, n] * numbers(guide)).sum(0) + got[3, n]
        assert np.abs(scores - (slopes * numbers(guide)).sum(0) - offset).max() < 1e-3


def test_without_colour_the_guided_filter_is_a_box_filter(device):
    maps, guide = random_maps(device, 2, 9, 14), torch.full((3, 9, 14), 0.3, device=device)
    *slopes, scores = refine.guided(maps, guide, radius=2)
    assert all(torch.equal(slope, torch.zeros_like(slope)) for slope in slopes)
    rows, cols = (refine.box_matrix(side, 2, device) for side in (9, 14))
    expected = rows @ (rows @ maps @ cols.T) @ cols.T
    assert torch.allclose(scores, expected, atol=1e-6)
    middle = maps[:, 0:9, 0:9].unfold(1, 5, 1).unfold(2, 5, 1).mean((1, 2, 3, 4))
    assert torch.allclose(scores[:, 4, 4], middle, atol=1e-5)


def test_scores_that_are_functions_of_the_colour_are_kept(device):
    image = colors(device, 24, 40)
    mix = torch.tensor([[3.0, -2.0, 0.5], [0.0, 4.0, 1.0]], device=device)
    maps = torch.einsum('mc,chw->mhw', mix, image.float() / 255) + 20
    a, b = refine.guided(maps, image.float() / 255, radius=3, epsilon=1e-7).split([3, 1])
    assert torch.allclose((a * image[:, None] / 255).sum(0) + b[0], maps, atol=2e-2)
    plain = refine.box_matrix(24, 3, device) @ maps @ refine.box_matrix(40, 3, device).T
    assert (plain - maps).abs().max() > 0.2


@pytest.mark.parametrize('size', [(24, 40), (40, 24), (7, 5)])
def test_the_rule_joins_coefficients_and_colours_at_the_size_of_the_labels(device, size):
    maps, image, grid = random_maps(device, 2, 3, 5), colors(device, *size), (12, 20)
    rows_of = refine.guided_rows(maps, size, image, grid)
    whole = numbers(rows_of(slice(0, size[0])))
    guide = torch.nn.functional.adaptive_avg_pool2d(image.float() / 255, grid)
    for n in range(2):
        coarse = oracle.bilinear(numbers(maps[n]), grid)
        slopes, offset = oracle.guided(coarse, numbers(guide), refine.RADIUS, refine.EPSILON)
        expected = oracle.bilinear(offset, size)
        for slope, color in zip(slopes, numbers(image) / 255, strict=True):
            expected = expected + oracle.bilinear(slope, size) * color
        assert np.abs(whole[n] - expected).max() < 5e-3
    assert np.abs(numbers(rows_of(slice(3, 6))) - whole[:, 3:6]).max() < 1e-4


def test_guided_of_a_turned_picture_is_turned(device):
    maps, image = random_maps(device, 2, 3, 5), colors(device, 30, 47)
    straight = refine.guided_rows(maps, (30, 47), image, (12, 20))(slice(0, 30))
    turned = refine.guided_rows(maps.mT, (47, 30), image.mT, (20, 12))(slice(0, 47))
    assert torch.allclose(straight, turned.mT, atol=5e-3)


def test_inverses_of_symmetric_matrices(device):
    x = random_maps(device, 3, 5, 4, 6).double()
    matrices = torch.einsum('ikhw,jkhw->ijhw', x, x)
    product = torch.einsum('ijhw,jkhw->ikhw', matrices, refine.inverses(matrices))
    eye = torch.eye(3, device=device, dtype=torch.double)[:, :, None, None]
    assert torch.allclose(product, eye.expand_as(product), atol=1e-6)


@pytest.mark.parametrize('name', ['guided', 'pamr'])
def test_edges_of_scores_move_to_those_of_the_picture(device, name):
    # Grey and red meet at column 37. The scores change between two patches of 16, at column 32.
    image = torch.full((3, 64, 96), 90, dtype=torch.uint8, device=device)
    image[0, :, 37:] = 200
    maps = torch.zeros(2, 4, 6, device=device)
    maps[0, :, :2] = maps[1, :, 2:] = 1
    if name == 'pamr':
        rows_of = refine.pamr_rows(maps, (64, 96), image.float())
    else:
        rows_of = refine.guided_rows(maps, (64, 96), image, (16, 24))
    edge = (rows_of(slice(0, 64)).argmax(0) == 0).sum(1)
    plain = (resample.enlarged(maps, (64, 96)).argmax(0) == 0).sum(1)
    assert (plain == 32).all() and (edge == 37).all()


def doubled(maps, size):
    rows_of = resample.enlarger(maps, size)
    return lambda rows: 2 * rows_of(rows)


def test_the_maps_that_win_most_are_refined_and_the_others_kept(device):
    maps = random_maps(device, 6, 4, 7)
    maps[3] += 1.5
    maps[1] += 1
    assert refine.leaders(maps, 2).tolist() == [3, 1]
    given = []
    scores = refine.along(maps, (9, 20), lambda m, s: given.append(len(m)) or doubled(m, s), 2)
    whole = torch.cat([band for _, band in scores], 1)
    assert given == [2]
    factor = torch.tensor([1, 2, 1, 2, 1, 1], device=device)[:, None, None]
    assert torch.allclose(whole, factor * resample.enlarged(maps, (9, 20)))


def test_leaders_that_win_alike_are_the_first(device):
    assert refine.leaders(torch.zeros(5, 2, 3, device=device), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize('most', [6, 7])
def test_few_maps_are_all_refined(device, most):
    maps = random_maps(device, 6, 4, 7)
    scores = refine.along(maps, (9, 20), doubled, most)
    whole = torch.cat([band for _, band in scores], 1)
    assert torch.equal(whole, 2 * resample.enlarged(maps, (9, 20)))


def test_leaders_of_equal_fame_are_those_with_the_highest_peaks(device):
    maps = torch.full((5, 2, 3), -1.0, device=device)
    maps[3] = 2  # the only one that wins
    maps[1], maps[2, 0, 1], maps[4] = resample.NOWHERE, 1, 0.5
    assert refine.leaders(maps, 4).tolist() == [3, 2, 4, 0]
