"""Kinds of data, recognised by their first bytes: the names of files and formats may be wrong."""

from __future__ import annotations

from PIL import features

PNG = b'\x89PNG\r\n\x1a\n'
# OpenCV reads these with all bits, and knows nothing of EXIF.
BY_OPENCV = ('JPEG', 'PNG', 'WebP', 'BMP', 'TIFF')
BY_PILLOW = ('AVIF', 'HEIC', 'GIF', 'JPEG 2000')
PICTURES = (*BY_OPENCV, *BY_PILLOW)
# Where the bytes are, which bytes, and of what kind.
_SIGNATURES = (
    (0, b'\xff\xd8\xff', 'JPEG'),
    (0, PNG, 'PNG'),
    (8, b'WEBP', 'WebP'),
    (0, b'BM', 'BMP'),
    (0, b'II*\0', 'TIFF'),
    (0, b'MM\0*', 'TIFF'),
    (0, b'II+\0', 'TIFF'),
    (0, b'MM\0+', 'TIFF'),
    (0, b'GIF8', 'GIF'),
    (4, b'jP  \r\n', 'JPEG 2000'),
    (0, b'\xff\x4f\xff\x51', 'JPEG 2000'),
    (4, b'JXL \r\n', 'JPEG XL'),
    (0, b'\xff\x0a', 'JPEG XL'),
    (12, PNG, 'compressedDepth'),
    (0, b'\0\0\1\0', 'ICO'),
    (0, b'\0\0\0\1', 'H.264 or H.265 video'),
    (0, b'\0\0\1', 'H.264 or H.265 video'),
    (8, b'AVI ', 'AVI video'),
    (0, b'\x1a\x45\xdf\xa3', 'Matroska video'),
    (0, b'%PDF', 'PDF'),
    (0, b'version https://git-lfs', 'a Git-LFS pointer; run "git lfs pull"'),
    (0, b'<!DOCTYPE', 'an HTML page'),
    (0, b'<html', 'an HTML page'),
)
_HEIC_BRANDS = {b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'}


def kind_of(data: bytes) -> str:
    """Return the kind of data from their first 64 bytes, or '' if it is not known."""
    if data[4:8] == b'ftyp':
        # The main brand, a version of 4 bytes, and the other brands.
        length = min(int.from_bytes(data[:4], 'big'), 64)
        brands = [data[at : at + 4] for at in range(8, length, 4)]
        if b'avif' in brands or b'avis' in brands:
            return 'AVIF'
        return 'HEIC' if _HEIC_BRANDS & set(brands) else 'MP4 video'
    found = (kind for at, magic, kind in _SIGNATURES if data[at : at + len(magic)] == magic)
    return next(found, '')


def prepare_pillow(kind: str) -> str:
    """Make Pillow ready to read a kind of picture.

    Returns:
        What is missing and how to install it, or ''.
    """
    if kind == 'HEIC':
        try:
            import pillow_heif
        except ImportError:
            return 'HEIC needs the package pillow-heif: pip install pillow-heif'
        pillow_heif.register_heif_opener()
    if kind == 'AVIF' and not features.check('avif'):
        return 'AVIF needs Pillow 11.3 or newer: pip install --upgrade pillow'
    return ''
