"""Scores that follow the edges of the picture when they are enlarged.

A score map is as coarse as the patches. Two rules bring it to the picture's edges: PAMR averages
scores along similar colours; a guided filter writes them as functions of the colour. Both are
linear in the scores, so cosines stay in the units of cosines.

Shapes: M maps on any grid (h, w); a picture [3, H', W'] of colours in 0..255; (H, W) the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError
from ..settings import Settings
from .resample import Bands, Enlarge, Rows, band_elements, bands, enlarged, enlarger, size_of

# Of PAMR in the official code of NACLIP (arXiv 2404.08181).
STEPS = 10
DILATIONS = (8, 16)

# Guided filter: cells a patch, half the side of its window in cells, and the variance of colours
# in 0..1 above which they count as an edge.
CELLS = 4
RADIUS = 3
EPSILON = 1e-4

# Maps are spread so many numbers at a time: 4 MB of float32.
CHUNK_ELEMENTS = 1 << 20


def enlarging(
    settings: Settings,
    patch: int,
    size: tuple[int, int],
    working: tuple[int, int],
    picture: Tensor | None,
) -> Enlarge:
    """How maps that decide where labels end are enlarged to `size`, by the setting `refine`.

    Args:
        patch: side in pixels of the working image.
        working: (height, width) of the working image.
        picture: see `EncodedImage.image`.

    Raises:
        SettingError: the picture is not the one that the setting needs.
    """
    name = settings.refine
    if name == 'none':
        return bands
    if picture is None or size_of(picture) != (working if name == 'pamr' else size):
        raise SettingError(
            f'refine: the image was not encoded for {name!r}; encode it with this segmenter'
        )
    if name == 'pamr':
        rule = partial(pamr_rows, image=picture)
    else:
        grid = (working[0] * CELLS // patch, working[1] * CELLS // patch)
        rule = partial(guided_rows, image=picture, grid=grid)
    return partial(along, rule=rule, most=settings.refine_words)


def along(
    maps: Tensor,
    size: tuple[int, int],
    rule: Callable[[Tensor, tuple[int, int]], Rows],
    most: int,
) -> Bands:
    """Maps [M, h, w] enlarged to `size`, at most `most` of them by a rule, in bands.

    Those are the maps that are the largest in most places; the others, which matter little, are
    enlarged bilinearly. So the cost of the rule does not grow with the number of words.
    """
    elements = band_elements(maps.device)
    if len(maps) <= most:
        return Bands(rule(maps, size), len(maps), size, elements)
    chosen = leaders(maps, most)
    plain, refined = enlarger(maps, size), rule(maps[chosen], size)

    def rows_of(rows: slice) -> Tensor:
        band = plain(rows)
        band[chosen] = refined(rows)
        return band

    return Bands(rows_of, len(maps), size, elements)


def leaders(maps: Tensor, count: int) -> Tensor:
    """Indices [count] of the maps [M, h, w] that are the largest in most places; of those that
    are so equally often, the ones with the highest peaks."""
    winner = maps.max(0).indices.flatten()
    wins = torch.zeros(len(maps), dtype=torch.int32, device=maps.device)
    wins.scatter_add_(0, winner, wins.new_ones(1).expand_as(winner))
    by_peak = maps.flatten(1).amax(1).argsort(descending=True, stable=True)
    by_wins = wins[by_peak].argsort(descending=True, stable=True)
    return by_peak[by_wins[:count]]


def pamr_rows(maps: Tensor, size: tuple[int, int], image: Tensor) -> Rows:
    """Rule for `along`: PAMR at the size of the image, then bilinear."""
    maps = enlarged(maps, size_of(image))
    return enlarger(pamr(maps, image), size)


def pamr(
    maps: Tensor, image: Tensor, steps: int = STEPS, dilations: tuple[int, ...] = DILATIONS
) -> Tensor:
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020, arXiv 2005.08104).

    In each step every pixel takes the mean of its neighbours' scores, weighted by `affinity`.

    Args:
        maps: [M, H, W] float.
        image: [3, H, W]; any range, the weights do not depend on it.

    Returns:
        [M, H, W]; no value leaves the range of its map.
    """
    weights = affinity(image.float(), dilations)
    chunk = max(1, CHUNK_ELEMENTS // weights[0].numel())
    return torch.cat([_spread(part, weights, steps, dilations) for part in maps.split(chunk)])


def _spread(maps: Tensor, weights: Tensor, steps: int, dilations: tuple[int, ...]) -> Tensor:
    for _ in range(steps):
        total = torch.zeros_like(maps)
        for weight, neighbour in zip(weights, neighbours(maps, dilations), strict=True):
            total.addcmul_(weight, neighbour)
        maps = total
    return maps


def affinity(image: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Weights [8 D, H, W] of the neighbours of every pixel of an image [3, H, W]; they sum to 1.

    softmax over the neighbours n of -mean over channels of |x - x_n| / (0.1 s), with s the
    standard deviation of the D 3 x 3 neighbourhoods together, each with its centre.
    """
    # Steps away from the pixel are exact where colours are nearly equal.
    total, square = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in neighbours(image, dilations):
        step = neighbour - image
        total += step
        square += step * step
    count = 9 * len(dilations)
    scale = 1e-8 + 0.1 * ((square - total * total / count) / (count - 1)).clamp_min(0).sqrt()
    distances = [((n - image).abs() / scale).mean(0) for n in neighbours(image, dilations)]
    return torch.stack(distances).neg().softmax(0)


def neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """The 8 neighbours at each distance, views [M, H, W] each; edges are repeated outside."""
    height, width = maps.shape[1:]
    border = max(dilations)
    padded = F.pad(maps, (border,) * 4, mode='replicate')
    for distance in dilations:
        for dy in (-distance, 0, distance):
            for dx in (-distance, 0, distance):
                if dy or dx:
                    top, left = border + dy, border + dx
                    yield padded[:, top : top + height, left : left + width]


def guided_rows(maps: Tensor, size: tuple[int, int], image: Tensor, grid: tuple[int, int]) -> Rows:
    """Rule for `along`: the fast guided filter (He and Sun, arXiv 1505.00996).

    Scores are locally a . colour + b. The coefficients come from a small grid, are enlarged
    bilinearly, and meet the colours of the image [3, H, W] there.
    """
    guide = F.interpolate(image[None].float() / 255, grid, mode='area')[0]
    coarse = enlarged(maps, grid)
    coefficients = enlarger(guided(coarse, guide).flatten(0, 1), size)

    def rows_of(rows: slice) -> Tensor:
        *slopes, scores = coefficients(rows).unflatten(0, (4, -1))
        for slope, color in zip(slopes, image[:, rows].float() / 255, strict=True):
            scores.addcmul_(slope, color)
        return scores

    return rows_of


def guided(maps: Tensor, guide: Tensor, radius: int = RADIUS, epsilon: float = EPSILON) -> Tensor:
    """Coefficients [4, M, h, w] of the guided filter (He, Sun and Tang, TPAMI 2013): a [3] and b.

    Over each window of the guide: a = (cov(I, I) + epsilon)^-1 cov(I, p), b = mean p - a . mean I;
    each pixel takes the mean of the windows that it is in. Windows end at the border.

    Args:
        maps: p, [M, h, w] float.
        guide: I, [3, h, w], colours in 0..1.
    """
    rows, cols = (box_matrix(side, radius, maps.device) for side in guide.shape[1:])

    def mean(x: Tensor) -> Tensor:
        return rows @ x @ cols.T

    # About their means, numbers are small and differences of products exact enough in float32.
    color, level = guide.mean((1, 2), keepdim=True), maps.mean((1, 2), keepdim=True)
    guide, maps = guide - color, maps - level
    mean_guide, mean_maps = mean(guide), mean(maps)
    own = mean(guide[:, None] * guide) - mean_guide[:, None] * mean_guide
    shared = mean(guide[:, None] * maps) - mean_guide[:, None] * mean_maps
    own += epsilon * torch.eye(3, device=own.device)[:, :, None, None]
    slopes = torch.einsum('ijhw,jmhw->imhw', inverses(own.double()).float(), shared)
    offset = mean_maps - (slopes * (mean_guide + color)[:, None]).sum(0) + level
    return mean(torch.cat([slopes, offset[None]]))


def inverses(matrices: Tensor) -> Tensor:
    """Inverses of symmetric positive matrices [3, 3, ...], by cross products of their rows."""
    a, b, c = matrices
    columns = torch.stack([torch.linalg.cross(x, y, dim=0) for x, y in ((b, c), (c, a), (a, b))])
    return columns / (a * columns[0]).sum(0)


def box_matrix(length: int, radius: int, device: torch.device | None = None) -> Tensor:
    """Weights [length, length] of the mean over 2 radius + 1 places, or those inside."""
    index = torch.arange(length, device=device)
    near = ((index[:, None] - index).abs() <= radius).float()
    return near / near.sum(1, keepdim=True)
