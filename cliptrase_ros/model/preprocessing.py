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

# Beyond this the long side would make more patches than any machine can attend to.
MAX_ASPECT = 8


def check_image(image: np.ndarray) -> None:
    """Raise ShapeError unless the image is [H, W, 3] uint8, not empty and no mere strip."""
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
    """(height, width) of an image resized so that its short side is `side`, and (top, left) of
    the square in its centre, as torchvision's Resize and CenterCrop have them.

    Args:
        size: (height, width) before.
    """
    height, width = size
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    return (height, width), round((height - side) / 2), round((width - side) / 2)


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3]: short side resized with PIL bicubic, then the centre, as in the published
    evaluation."""
    (height, width), top, left = crop_geometry(image.shape[:2], side)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    return resized[top : top + side, left : left + side]


def to_device(image: np.ndarray, device: torch.device) -> Tensor:
    """The image [H, W, 3] uint8 on the device; nobody waits until it is there."""
    pixels = torch.from_numpy(np.array(image, order='C'))
    if device.type == 'cuda':
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)


def image_size_of(image: Tensor) -> tuple[int, int]:
    """(height, width) of an image [H, W, C]."""
    height, width, _ = image.shape
    return height, width


def resize_plainly(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W, 3] uint8 -> [3, h, w] float32 in 0..255, bilinear between the four nearest pixels and
    rounded: as OpenCV's, but for one grey level here and there."""
    pixels = image.permute(2, 0, 1).float()
    return F.interpolate(pixels[None], size=size, mode='bilinear', align_corners=False)[0].round()


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W, 3] uint8 -> [3, h, w] float32 in 0..255, bicubic with antialiasing.

    On the CPU in bytes, rounded after each axis as PIL does, several times as fast as in float32;
    other devices have no such kernel.
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
    """From an image to what the tower sees of it, by the settings; immutable.

    Args:
        patch: side of a patch in pixels.
    """

    def __init__(self, settings: Settings, patch: int):
        self._settings, self._patch = settings, patch

    def crop(self, image: np.ndarray) -> np.ndarray:
        """What of an image is labelled: all, or the crop of the cliptrase protocol.

        Raises:
            ShapeError: see `check_image`.
        """
        check_image(image)
        if self._settings.protocol == 'cliptrase':
            return centre_crop(image, self._settings.input_size)
        return image

    def label_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the labels of a crop of this size."""
        return self._settings.label_size or size

    def view(self, image: np.ndarray) -> np.ndarray:
        """See `Segmenter.view`."""
        crop = self.crop(image)
        size = self.label_size(crop.shape[:2])
        if size == crop.shape[:2]:
            return crop
        return np.asarray(Image.fromarray(crop).resize(size[::-1], Image.Resampling.BILINEAR))

    def view_geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """See `Segmenter.view_geometry`."""
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
        """(height, width) that an image of this size is resized to, a multiple if that is free."""
        side = self._settings.input_size
        if self._settings.protocol == 'sliding':
            return windows.sliding_size(*size, side)
        # The crop of the cliptrase protocol has its working size already.
        return windows.working_size(*size, side, multiple)

    def whole_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """`working_size` of an image that is seen whole, before the rest of a patch is cut off."""
        return self.working_size(size, self._patch)

    def resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """The image [H, W, 3] uint8 as [3, *size] float32 in 0..255."""
        sliding = self._settings.protocol == 'sliding'
        return (resize_plainly if sliding else resize)(image, size)

    def whole(self, image: Tensor) -> Tensor:
        """An image [H, W, 3] as the tower sees it whole, [3, h, w] in whole patches. In the sliding
        protocol the rest of a patch is cut off, and the features are held for those of all of the
        image."""
        pixels = self.resized(image, self.whole_size(image_size_of(image)))
        height, width = (side // self._patch * self._patch for side in pixels.shape[-2:])
        return pixels[:, :height, :width]

    def edges(self, image: Tensor, pixels: Tensor) -> Tensor | None:
        """The `EncodedImage.image` of an image that the tower sees as `pixels`."""
        if self._settings.refine == 'guided':
            return resize(image, self.label_size(image_size_of(image))).round().byte()
        return pixels if self._settings.refine == 'pamr' else None
