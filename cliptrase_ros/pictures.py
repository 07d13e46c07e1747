"""Pictures before the tower sees them: read, checked, resized, cropped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import PictureError, ShapeError

# Of pictures. What is one of them and yet cannot be read here, is told.
SUFFIXES = {
    *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.jpeg', '.jpg'),
    *('.png', '.ppm', '.tif', '.tiff', '.webp'),
}

# Beyond this the long side would make more patches than any machine can attend to.
MAX_ASPECT = 8


def listed(path: Path) -> list[Path]:
    """The pictures of a folder by name, or the path itself.

    Raises:
        PictureError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise PictureError(f'no picture in the folder {path}')
    return found


def read(path: Path | str, upright: bool = True) -> np.ndarray:
    """The picture in a file as [H, W, 3] uint8 RGB.

    Args:
        upright: turn it as its EXIF orientation says.

    Raises:
        PictureError: there is no such file, or it is damaged, cut off or no picture that can be
            segmented.
    """
    with opened(path) as file:
        image = _rgb(ImageOps.exif_transpose(file) if upright else file)
    try:
        check_image(image)
    except ShapeError as error:
        raise PictureError(f'{path}: {error}') from error
    return image


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture in a file, to be decoded before it closes.

    Raises:
        PictureError: there is no such file, or it is damaged or no picture.
    """
    try:
        with Image.open(path) as file:
            yield file
    except UnidentifiedImageError as error:
        raise PictureError(f'{path} is no picture') from error
    except Exception as error:  # damage takes Pillow's decoders to errors of any kind
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise PictureError(f'{path} cannot be read ({reason})') from error


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode == 'F':
        raise ValueError('floating-point numbers: not known which of them are white')
    if picture.mode.startswith('I'):
        # 16 bits of grey; Pillow would clip them at 255.
        grey = np.rint(np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert('RGB'))


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
