"""Check, resize and crop images for the tower."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import ShapeError

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


def crop_geometry(height: int, width: int, side: int) -> tuple[tuple[int, int], int, int]:
    """(height, width) of an image resized so that its short side is `side`, and (top, left) of
    the square in its centre, as torchvision's Resize and CenterCrop have them."""
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    return (height, width), round((height - side) / 2), round((width - side) / 2)


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """[side, side, 3]: short side resized with PIL bicubic, then the centre, as in the published
    evaluation."""
    (height, width), top, left = crop_geometry(*image.shape[:2], side)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    return resized[top : top + side, left : left + side]


def to_device(image: np.ndarray, device: torch.device) -> Tensor:
    """The image [H, W, 3] uint8 on the device; nobody waits until it is there."""
    pixels = torch.from_numpy(np.array(image, order='C'))
    if device.type == 'cuda':
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)


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
    if tuple(image.shape[:2]) == tuple(size):
        return pixels.float()
    if image.device.type != 'cpu':
        pixels = pixels.float()
    resized = F.interpolate(
        pixels[None], size=size, mode='bicubic', antialias=True, align_corners=False
    )
    return resized[0].float().clamp(0, 255)
