"""From the semantic correlation of one image to its regions, by the settings (CLIPtrase)."""

from __future__ import annotations

from torch import Tensor

from ..settings import Settings
from . import clusters, refine


class RegionFinder:
    """The steps of `clusters` with the numbers that the settings give them; immutable.

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
        """Affinity [N, N] and clusters [rows, cols] of patches, and the region [H, W] of pixels.

        Args:
            correlation: [1 + N, 1 + N] of all tokens.
            grid: (rows, cols).
            size: (H, W).
            picture: see `EncodedImage.image`.
        """
        affinity = clusters.denoised_affinity(correlation, self._settings.denoise_weight)
        labels = self.clusters(affinity, grid)
        return affinity, labels, self.regions(affinity, labels, size, picture)

    def clusters(self, affinity: Tensor, grid: tuple[int, int]) -> Tensor:
        """The cluster [rows, cols] of each patch, from their affinity [N, N]."""
        settings = self._settings
        eps, min_samples = clusters.dbscan_parameters(len(affinity))
        labels = clusters.dbscan(
            affinity, settings.cluster_eps or eps, settings.cluster_min_samples or min_samples
        )
        return labels.view(grid)

    def regions(
        self, affinity: Tensor, labels: Tensor, size: tuple[int, int], picture: Tensor | None
    ) -> Tensor:
        """The region [H, W] of each pixel, from clusters [rows, cols]."""
        settings, (rows, cols) = self._settings, labels.shape
        maps = clusters.region_maps(
            affinity,
            labels.flatten(),
            (rows, cols),
            settings.region_upsampling,
            settings.region_median,
        )
        working = (rows * self._patch, cols * self._patch)
        enlarge = refine.enlarging(settings, self._patch, size, working, picture)
        return clusters.regions(maps, size, enlarge)
