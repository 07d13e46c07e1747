"""The depth of an image in metres from a depth image, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ...errors import CliptraseError, ImageError
from ...media import compressed_depth, encodings
from ...space.geometry import Pinhole, calibrated_size, fits, metres, resized, same_view
from .. import diagnostics, messages
from ..parameters import NodeOptions

# Two calibrations of one camera differ by less; those of colour and depth cameras by more.
SAME_CAMERA = 0.05
# If no depth is nearer than this, the values are not metres.
FARTHEST_M = 100.0


class DepthError(CliptraseError):
    """There is no usable depth for an image.

    Attributes:
        event: name of the counter for this kind of error.
    """

    def __init__(self, event: str, reason: str):
        super().__init__(reason)
        self.event = event


@dataclass(frozen=True, eq=False)
class Depth:
    """A depth image with the view of an image.

    Attributes:
        pixels: as received, [H, W] uint16 (mm) or float32 (m).
        metres: [H, W] float32, NaN where it is not valid or out of range.
        camera: pinhole camera of the depth image.
    """

    pixels: np.ndarray
    metres: np.ndarray
    camera: Pinhole


def depth_of(
    message: Image | CompressedImage,
    info: CameraInfo | None,
    image_info: CameraInfo | None,
    image_size: tuple[int, int],
    options: NodeOptions,
) -> Depth:
    """Return the depth of an image.

    Args:
        message: depth image, raw or of compressed_depth_image_transport.
        info: intrinsics of the depth image, if they have come.
        image_info: intrinsics of the image, used if `info` is missing. Both show the same view.
        image_size: (H, W) of the image.

    Raises:
        DepthError: the depth image does not fit the image, or has no valid depth.
    """
    try:
        packed = isinstance(message, CompressedImage)
        pixels = compressed_depth.depth(message) if packed else encodings.depth(message)
    except ImageError as error:
        raise DepthError(diagnostics.DEPTH_BAD, str(error)) from None
    size = pixels.shape
    if not same_view(size, image_size):
        raise _unregistered(f'depth with {_px(size)}', _px(image_size))
    limits = options.depth
    farthest = float('inf') if limits.max_m == 'none' else limits.max_m
    depth = metres(pixels, limits.min_m, farthest)
    if np.isnan(depth).all():
        raise DepthError(
            diagnostics.DEPTH_EMPTY,
            'the depth image holds no valid depth: every pixel is 0, NaN, saturated, or outside '
            'depth.min_m .. depth.max_m',
        )
    if pixels.dtype == np.float32 and np.nanmin(depth) > FARTHEST_M:
        raise DepthError(
            diagnostics.DEPTH_BAD,
            f'no pixel of the depth image is nearer than {np.nanmin(depth):.0f} m: 32FC1 must be '
            'in metres; publish millimetres as 16UC1',
        )
    camera = _camera(info, size, image_info, image_size)
    if calibrated(image_info) and fits(image_info, image_size):
        move = resized(image_size, size)
        others = [one.moved(move) for one in messages.pinholes(image_info, image_size)]
        if min(_apart(camera, other, size) for other in others) > SAME_CAMERA:
            raise _unregistered(f'depth with {_seen_by(camera)}', _seen_by(others[0]))
    return Depth(pixels, depth, camera)


def _unregistered(depth: str, image: str) -> DepthError:
    return DepthError(
        diagnostics.DEPTH_UNREGISTERED,
        f'{depth} does not show the view of the image with {image}: use depth that is registered '
        'to the colour image, for example by align_depth of RealSense or by depth_image_proc',
    )


def _apart(one: Pinhole, other: Pinhole, size: tuple[int, int]) -> float:
    """Return the largest difference of two cameras for images of one size: of the focal lengths,
    relative to them, and of the principal points, relative to the sides of the image."""
    focal = abs(one.fx / other.fx - 1), abs(one.fy / other.fy - 1)
    return max(*focal, abs(one.cx - other.cx) / size[1], abs(one.cy - other.cy) / size[0])


def _seen_by(camera: Pinhole) -> str:
    return f'a focal length of {camera.fx:.0f} px, centre x = {camera.cx:.0f}'


def _camera(
    info: CameraInfo | None,
    size: tuple[int, int],
    image_info: CameraInfo | None,
    image_size: tuple[int, int],
) -> Pinhole:
    """Return the camera of a depth image of `size`.

    Raises:
        DepthError: there are no intrinsics, or they are for another view.
    """
    of_image = not calibrated(info)
    if of_image:
        info, own_size, what = image_info, image_size, 'image'
    else:
        own_size, what = size, 'depth image'
    if not calibrated(info):
        raise DepthError(
            diagnostics.DEPTH_NO_INTRINSICS,
            'depth without intrinsics: neither depth/camera_info nor camera_info has come with a '
            'focal length; remap one of them to the topic of the camera driver',
        )
    if not fits(info, own_size):
        expected = calibrated_size(info)
        raise DepthError(
            diagnostics.DEPTH_OTHER_INTRINSICS,
            f'the intrinsics are for {_px(expected)}, but the {what} has {_px(own_size)}, which '
            'is not the same view in another size: publish the camera_info of these images',
        )
    camera = messages.pinholes(info, own_size)[0]
    return camera.moved(resized(image_size, size)) if of_image else camera


def calibrated(info: CameraInfo | None) -> bool:
    """Return True if there is a calibration and it is filled in."""
    return info is not None and bool(messages.pinholes(info, calibrated_size(info)))


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} px'
