"""Picture files as people have them: read by their content, or named."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, features

from cliptrase_ros.errors import PictureError
from cliptrase_ros.media import pictures

NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
SMOOTH = cv2.resize(NOISE, (64, 48), interpolation=cv2.INTER_CUBIC)
WANTED = 'expected JPEG, PNG, WebP, BMP, TIFF, AVIF, HEIC, GIF, JPEG 2000'


def needs(kind):
    if kind == 'HEIF':
        pytest.importorskip('pillow_heif').register_heif_opener()
    if kind == 'AVIF' and not features.check('avif'):
        pytest.skip('this Pillow has no AVIF')


def saved(path, kind, picture=None, **options):
    needs(kind)
    (picture or Image.fromarray(SMOOTH)).save(path, kind, **options)
    return path


def told(path):
    with pytest.raises(PictureError) as caught:
        pictures.read_picture(path)
    return str(caught.value)


@pytest.mark.parametrize('suffix', ['.jpg', '.HEIC', '.txt', ''])
@pytest.mark.parametrize(
    'kind, close',
    [
        *(('PNG', 0), ('BMP', 0), ('TIFF', 0), ('PPM', 0), ('JPEG', 4), ('WEBP', 9)),
        *(('GIF', 26), ('AVIF', 9), ('HEIF', 9), ('JPEG2000', 2)),
    ],
)
def test_kinds_whatever_their_suffix(tmp_path, kind, close, suffix):
    image = pictures.read_picture(saved(tmp_path / f'a{suffix}', kind))
    assert image.shape == SMOOTH.shape and image.dtype == np.uint8
    assert np.abs(image.astype(int) - SMOOTH).mean() <= close


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'AVIF', 'HEIF', 'JPEG2000'])
@pytest.mark.parametrize('kept', [0.05, 0.5, 0.95])
def test_files_that_are_cut_off(tmp_path, kind, kept):
    path = saved(tmp_path / 'a.jpg', kind)
    data = path.read_bytes()
    path.write_bytes(data[: max(12, int(kept * len(data)))])
    text = told(path)
    assert text.startswith(f'{path} cannot be read (') or 'data are cut off or corrupt' in text


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_the_first_frame_of_several(tmp_path, kind):
    frames = [Image.fromarray(np.full((30, 40, 3), grey, np.uint8)) for grey in (50, 200)]
    frames[0].save(tmp_path / 'a', kind, save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / 'a').n_frames == 2
    image = pictures.read_picture(tmp_path / 'a')
    assert image.shape == (30, 40, 3) and np.abs(image.astype(int) - 50).max() < 3


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', '1', 'CMYK', 'RGBA', 'YCbCr'])
def test_modes(tmp_path, mode):
    picture = Image.fromarray(SMOOTH).convert(mode)
    path = saved(
        tmp_path / 'a', 'JPEG' if mode == 'YCbCr' else 'TIFF' if mode == 'CMYK' else 'PNG', picture
    )
    image = pictures.read_picture(path)
    assert np.abs(image - np.asarray(picture.convert('RGB')).astype(int)).mean() < 4


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('channels', [1, 3])
def test_16_bits(tmp_path, suffix, channels):
    values = SMOOTH[..., :channels].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f'a{suffix}'), values[..., ::-1])
    image = pictures.read_picture(tmp_path / f'a{suffix}')
    assert (image == SMOOTH[..., :channels]).all()


BAD_EXIF = [b'', b'\xff' * 20, b'II*\0\xff\xff\xff\x7f', b'II*\0\x08\0\0\0\x01\0\x12\1\3\0']
# An orientation of 9 does not exist.
BAD_EXIF += [b'II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\x09\0\0\0\0\0\0\0']


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
@pytest.mark.parametrize('exif', BAD_EXIF)
def test_damaged_exif_loses_no_picture(tmp_path, exif):
    saved(tmp_path / 'a.jpg', 'JPEG', exif=b'Exif\0\0' + exif)
    assert pictures.read_picture(tmp_path / 'a.jpg').shape == SMOOTH.shape


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'HEIF'])
def test_orientation_in_each_kind(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / 'a', kind, exif=exif.tobytes())
    turned = pictures.read_picture(path)
    assert turned.shape == (64, 48, 3)
    assert np.abs(turned.astype(int) - np.rot90(SMOOTH, -1)).mean() <= 9


@pytest.mark.parametrize(
    'content, reason',
    [
        (b'', f': it is empty; {WANTED}'),
        (b'some text', ''),
        (b'<!DOCTYPE html><html>', f': it holds an HTML page; {WANTED}'),
        (
            b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
            f': it holds a Git-LFS pointer; run "git lfs pull"; {WANTED}',
        ),
        (b'%PDF-1.7\n', f': it holds PDF; {WANTED}'),
        (b'\0\0\0\x18ftypisom\0\0\0\0isomavc1', f': it holds MP4 video; {WANTED}'),
        (b'\xff\x0a\0\0', f': it holds JPEG XL; {WANTED}'),
        (b'\x89PNG\r\n\x1a\n', ' that can be read: its PNG data are cut off or corrupt'),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, reason):
    (tmp_path / 'a.jpg').write_bytes(content)
    assert told(tmp_path / 'a.jpg') == f'{tmp_path}/a.jpg is no picture{reason}'


def test_a_folder_is_no_picture(tmp_path):
    (tmp_path / 'a.jpg').mkdir()
    assert told(tmp_path / 'a.jpg') == f'{tmp_path}/a.jpg cannot be read (Is a directory)'


def test_heic_without_its_package(tmp_path, monkeypatch):
    path = saved(tmp_path / 'phone.heic', 'HEIF')
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    wanted = 'HEIC needs the package pillow-heif: pip install pillow-heif'
    assert told(path) == f'{path} cannot be read: {wanted}'


def test_heic_by_another_brand(tmp_path):
    """Apple's, and those of newer cameras that name the kind only among the other brands."""
    data = saved(tmp_path / 'a', 'HEIF').read_bytes()
    assert data[8:12] == b'heic'
    (tmp_path / 'a').write_bytes(data[:8] + b'mif1' + data[12:])
    assert pictures.read_picture(tmp_path / 'a').shape == SMOOTH.shape


def test_a_picture_that_is_too_large(tmp_path):
    """A PNG of 20000 x 10000 px; Pillow refuses it before it reads the pixels."""
    path = saved(tmp_path / 'a.png', 'PNG', Image.new('1', (20000, 10000)))
    assert told(path) == (
        f'{path} cannot be read: it has 200 million pixels; the limit is 179 million. Make it '
        'smaller, or cut it into pieces'
    )


@pytest.mark.parametrize('text', ['Image size (3072 pixels) exceeds limit', 'another sentence'])
def test_the_size_in_the_error_of_pillow(text):
    assert 'pixels; the limit is 179 million' in pictures._pixels(
        Image.DecompressionBombError(text)
    )


def test_a_large_picture_is_read_without_a_warning(tmp_path):
    """In a new process, since pytest has its own filters of warnings."""
    path = saved(tmp_path / 'a.png', 'PNG')
    program = (
        'import sys; from PIL import Image; from cliptrase_ros.media import pictures; '
        'Image.MAX_IMAGE_PIXELS = 3000; print(pictures.read_picture(sys.argv[1]).shape)'
    )
    done = subprocess.run([sys.executable, '-c', program, path], capture_output=True, text=True)
    assert done.stdout == '(48, 64, 3)\n' and not done.stderr
