"""Enlarging scores so that they follow the edges of the picture.

A score map is as coarse as the patches. Two rules align it with the edges of the picture: PAMR
averages scores along similar colours; a guided filter writes scores as functions of the colour.
Both are linear in the scores, so cosines keep their units.

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

# Parameters of PAMR in the official code of NACLIP (arXiv 2404.08181).
STEPS = 10
DILATIONS = (8, 16)

# Guided filter: cells along a side of a patch; cells from the centre of a window to its border; and
# the variance of colours in 0..1 above which they count as an edge.
CELLS = 4
RADIUS = 3
EPSILON = 1e-4

# Limit of the numbers that PAMR processes at a time: 4 MB of float32.
CHUNK_ELEMENTS = 1 << 20


def enlarging(
    settings: Settings,
    patch: int,
    size: tuple[int, int],
    working: tuple[int, int],
    picture: Tensor | None,
) -> Enlarge:
    """Return the function that enlarges maps to `size`, as the setting `refine` says.

    It is used for the maps that decide where labels end.

    Args:
        patch: side of a patch in pixels of the working image.
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
    """Enlarge maps [M, h, w] to `size`, in bands. At most `most` maps are enlarged by the rule.

    These are the maps that are the largest one in the most places. The others matter little, and
    are enlarged bilinearly. So the cost of the rule does not grow with the number of words.
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
    """Return the indices [count] of the maps [M, h, w] that are the largest in the most places.

    Ties: the maps with the highest peaks.
    """
    winner = maps.max(0).indices.flatten()
    wins = torch.zeros(len(maps), dtype=torch.int32, device=maps.device)
    wins.scatter_add_(0, winner, wins.new_ones(1).expand_as(winner))
    by_peak = maps.flatten(1).amax(1).argsort(descending=True, stable=True)
    by_wins = wins[by_peak].argsort(descending=True, stable=True)
    return by_peak[by_wins[:count]]


def pamr_rows(maps: Tensor, size: tuple[int, int], image: Tensor) -> Rows:
    """Apply PAMR at the size of the image, then enlarge bilinearly. A rule for `along`."""
    maps = enlarged(maps, size_of(image))
    return enlarger(pamr(maps, image), size)


def pamr(
    maps: Tensor, image: Tensor, steps: int = STEPS, dilations: tuple[int, ...] = DILATIONS
) -> Tensor:
    """Refine maps with pixel-adaptive mask refinement (PAMR).

    Source: Araslanov and Roth, CVPR 2020, arXiv 2005.08104. In each step every pixel takes the mean
    of its neighbours' scores, weighted by `affinity`.

    Args:
        maps: [M, H, W] float.
        image: [3, H, W], any range of values: the weights do not depend on it.

    Returns:
        [M, H, W]; values stay within the range of their map.
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
    """Return the weights [8 D, H, W] of the neighbours of every pixel of an image [3, H, W].

    The weights of a pixel sum to 1. They are the softmax over the neighbours n of -mean over
    channels of |x - x_n| / (0.1 s), with s the standard deviation of the D 3 x 3 neighbourhoods
    together, each with its centre.
    """
    # Differences to the pixel, because they are exact if colours are nearly equal.
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
    """Yield the 8 neighbours at each distance, each a view [M, H, W]; edges are replicated."""
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
    """Apply the fast guided filter (He and Sun, arXiv 1505.00996). A rule for `along`.

    Locally, scores are a . colour + b. The coefficients are computed on a small grid, enlarged
    bilinearly, and then applied to the colours of the image [3, H, W].
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
    """Return the coefficients a [3] and b of the guided filter, [4, M, h, w].

    Source: He, Sun and Tang, TPAMI 2013. Over each window of the guide:
    a = (cov(I, I) + epsilon)^-1 cov(I, p), b = mean p - a . mean I. Each pixel takes the mean of
    all windows that contain it. Windows are cut at the border.

    Args:
        maps: p, [M, h, w] float.
        guide: I, [3, h, w], colours in 0..1.
    """
    rows, cols = (box_matrix(side, radius, maps.device) for side in guide.shape[1:])

    def mean(x: Tensor) -> Tensor:
        return rows @ x @ cols.T

    # Without their means the numbers are small, and differences of products are exact enough in
    # float32.
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
    """Invert symmetric positive matrices [3, 3, ...], by cross products of their rows."""
    a, b, c = matrices
    columns = torch.stack([torch.linalg.cross(x, y, dim=0) for x, y in ((b, c), (c, a), (a, b))])
    return columns / (a * columns[0]).sum(0)


def box_matrix(length: int, radius: int, device: torch.device | None = None) -> Tensor:
    """Return the weights [length, length] of the mean over 2 radius + 1 places.

    At the border, the mean is over the places inside.
    """
    index = torch.arange(length, device=device)
    near = ((index[:, None] - index).abs() <= radius).float()
    return near / near.sum(1, keepdim=True)
