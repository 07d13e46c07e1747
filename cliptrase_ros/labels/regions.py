"""From the semantic correlation of one image to its regions, as the settings say (CLIPtrase)."""

from __future__ import annotations

from torch import Tensor

from ..settings import Settings
from . import clusters, refine


class RegionFinder:
    """The steps of `clusters` with the numbers of the settings; immutable.

    Args:
        patch: side of a patch in pixels of the working image.
    """

    def __init__(self, settings: Settings, patch: int):
        self._settings, self._patch = settings, patch

    def __call__(
        self,
        correlation: Tensor,
        grid: tuple[int, int],
        size: tuple[int, int],
        picture: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return affinity [N, N] and clusters [rows, cols] of patches, regions [H, W] of pixels.

        Args:
            correlation: [1 + N, 1 + N] of all tokens.
            grid: (rows, cols) of patches.
            size: (H, W) of the labels.
            picture: see `EncodedImage.image`.
        """
        affinity = clusters.denoised_affinity(correlation)
        labels = self.clusters(affinity, grid)
        return affinity, labels, self.regions(affinity, labels, size, picture)

    def clusters(self, affinity: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the cluster [rows, cols] of each patch, from their affinity [N, N]."""
        chosen = self._settings.cluster
        eps, min_samples = clusters.dbscan_parameters(len(affinity))
        eps = eps if chosen.eps == 'auto' else chosen.eps
        min_samples = min_samples if chosen.min_samples == 'auto' else chosen.min_samples
        return clusters.dbscan(affinity, eps, min_samples).view(grid)

    def regions(
        self, affinity: Tensor, labels: Tensor, size: tuple[int, int], picture: Tensor | None
    ) -> Tensor:
        """Return the region [H, W] of each pixel, from clusters [rows, cols]."""
        settings, grid = self._settings, (labels.shape[0], labels.shape[1])
        median = settings.region.median
        maps = clusters.region_maps(affinity, labels.flatten(), grid, median=median)
        working = (grid[0] * self._patch, grid[1] * self._patch)
        enlarge = refine.enlarging(settings, self._patch, size, working, picture)
        return clusters.regions(maps, size, enlarge)
