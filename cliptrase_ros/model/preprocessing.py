"""Check, resize and crop images for the tower."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import ShapeError
from ..settings import Settings
from . import windows

# A longer side would give more patches than any machine can compute attention for.
MAX_ASPECT = 8


def check_image(image: np.ndarray) -> None:
    """Raise ShapeError unless the image is [H, W, 3] uint8, not empty, and not too narrow.

    The limit is `MAX_ASPECT`: long side / short side.
    """
    if not isinstance(image, np.ndarray):
        raise ShapeError(f'image: expected a numpy array, got {type(image).__name__}')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ShapeError(
            f'image: expected [H, W, 3] uint8 RGB, got {list(image.shape)} {image.dtype}'
        )
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ShapeError(
            f'image of {width} x {height} px: one side is more than {MAX_ASPECT} times the other; '
            'cut it into pieces'
        )


def crop_geometry(size: tuple[int, int], side: int) -> tuple[tuple[int, int], int, int]:
    """Return the geometry of torchvision's Resize and CenterCrop to `side`.

    Args:
        size: (height, width) of the image before.

    Returns:
        (height, width) after resizing the short side to `side`; top and left of the square in the
        centre.
    """
    height, width = size
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    return (height, width), round((height - side) / 2), round((width - side) / 2)


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """Resize the short side to `side` with PIL bicubic, then return the centre [side, side, 3].

    The published evaluation does the same.
    """
    (height, width), top, left = crop_geometry(image.shape[:2], side)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    return resized[top : top + side, left : left + side]


def to_device(image: np.ndarray, device: torch.device) -> Tensor:
    """Copy the image [H, W, 3] uint8 to the device, without waiting for the copy."""
    pixels = torch.from_numpy(np.array(image, order='C'))
    if device.type == 'cuda':
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)


def image_size_of(image: Tensor) -> tuple[int, int]:
    """Return (height, width) of an image [H, W, C]."""
    height, width, _ = image.shape
    return height, width


def resize_plainly(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [H, W, 3] uint8 to [3, h, w] float32 in 0..255, bilinear without antialiasing.

    Values are interpolated between the four nearest pixels and rounded. The result equals that of
    OpenCV, except for a difference of one grey level in some pixels.
    """
    pixels = image.permute(2, 0, 1).float()
    return F.interpolate(pixels[None], size=size, mode='bilinear', align_corners=False)[0].round()


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [H, W, 3] uint8 to [3, h, w] float32 in 0..255, bicubic with antialiasing.

    The CPU computes in bytes and rounds after each axis, as PIL does. This is several times as fast
    as float32. Other devices have no such kernel and use float32.
    """
    pixels = image.permute(2, 0, 1)
    if image_size_of(image) == size:
        return pixels.float()
    if image.device.type != 'cpu':
        pixels = pixels.float()
    resized = F.interpolate(
        pixels[None], size=size, mode='bicubic', antialias=True, align_corners=False
    )
    return resized[0].float().clamp(0, 255)


class Preprocessor:
    """Makes the input of the tower from an image, as the settings say; immutable.

    Args:
        patch: side of a patch in pixels.
    """

    def __init__(self, settings: Settings, patch: int):
        self._settings, self._patch = settings, patch

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Return the part of an image that is labelled.

        This is the whole image, or the crop of the cliptrase protocol.

        Raises:
            ShapeError: see `check_image`.
        """
        check_image(image)
        if self._settings.protocol == 'cliptrase':
            return centre_crop(image, self._settings.input_size)
        return image

    def label_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) of the labels of a crop of this size."""
        return self._settings.label_size or size

    def view(self, image: np.ndarray) -> np.ndarray:
        """Return the picture that the labels belong to, see `Segmenter.view`."""
        crop = self.crop(image)
        size = self.label_size(crop.shape[:2])
        if size == crop.shape[:2]:
            return crop
        return np.asarray(Image.fromarray(crop).resize(size[::-1], Image.Resampling.BILINEAR))

    def view_geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """Return where pixels are on the labels, see `Segmenter.view_geometry`."""
        if self._settings.protocol == 'cliptrase':
            inner, top, left = crop_geometry(size, self._settings.input_size)
            target = (self._settings.input_size, self._settings.input_size)
        else:
            target = inner = self._settings.label_size or size
            top = left = 0
        sy, sx = (new / old for new, old in zip(inner, size, strict=True))
        moved = [[sx, 0, (sx - 1) / 2 - left], [0, sy, (sy - 1) / 2 - top]]
        return target, np.array(moved)

    def working_size(self, size: tuple[int, int], multiple: int = 1) -> tuple[int, int]:
        """Return (height, width) to which an image of this size is resized.

        Both are multiples of `multiple`, except in the sliding protocol, which fixes the size.
        """
        side = self._settings.input_size
        if self._settings.protocol == 'sliding':
            return windows.sliding_size(*size, side)
        # The crop of the cliptrase protocol already has its working size.
        return windows.working_size(*size, side, multiple)

    def patch_size(self, size: tuple[int, int]) -> float:
        """Return the side of a patch in pixels of the labels of an image of this size (H, W)."""
        labels, _ = self.view_geometry(size)
        return self._patch * min(labels) / min(self.working_size(size))

    def whole_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the `working_size` of an image that the tower sees whole.

        `whole` then cuts off the pixels beyond the last whole patch.
        """
        return self.working_size(size, self._patch)

    def resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize the image [H, W, 3] uint8 to [3, *size] float32 in 0..255."""
        sliding = self._settings.protocol == 'sliding'
        return (resize_plainly if sliding else resize)(image, size)

    def whole(self, image: Tensor) -> Tensor:
        """Return the input [3, h, w] of the tower for a whole image [H, W, 3], in whole patches.

        In the sliding protocol the pixels beyond the last whole patch are cut off. The features
        are still used as if they covered the whole image.
        """
        pixels = self.resized(image, self.whole_size(image_size_of(image)))
        height, width = (side // self._patch * self._patch for side in pixels.shape[-2:])
        return pixels[:, :height, :width]

    def edges(self, image: Tensor, pixels: Tensor) -> Tensor | None:
        """Return the `EncodedImage.image` of an image.

        Args:
            pixels: the input of the tower for this image.
        """
        if self._settings.refine == 'guided':
            return resize(image, self.label_size(image_size_of(image))).round().byte()
        return pixels if self._settings.refine == 'pamr' else None
