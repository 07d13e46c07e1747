"""What kind of file something is, by its first bytes: weights, or what people have instead."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import WeightsError

_FOREIGN = {
    b'GGUF': 'a GGUF file',
    b'\x89HDF': 'an HDF5 file (Keras)',
    b'\x93NUMPY': 'a NumPy array',
    b'\x1f\x8b': 'compressed with gzip: unpack it',
    b'\x28\xb5\x2f\xfd': 'compressed with zstd: unpack it',
    b'\xfd7zXZ': 'compressed with xz: unpack it',
    b'BZh': 'compressed with bzip2: unpack it',
    b'7z\xbc\xaf': 'a 7z archive: unpack it',
    b'Rar!': 'a RAR archive: unpack it',
}
_HEADER_LIMIT = 100_000_000  # bytes; of safetensors' own reader


def is_weights(file: Path) -> bool:
    try:
        return bool(kind_of(file))
    except (WeightsError, OSError):
        return False


def kind_of(file: Path) -> str:
    """Return 'safetensors', 'torchscript' or 'pickle', by the first bytes.

    Raises:
        WeightsError: it is something else; without the name of the file.
    """
    with file.open('rb') as opened:
        head = opened.read(512)
    text = head.lstrip(b'\xef\xbb\xbf \t\r\n')
    if not head.strip(b'\0'):
        raise WeightsError('is damaged: it is empty or holds zeros. Download it again')
    if text.startswith(b'version https://git-lfs'):
        raise WeightsError(
            'is a Git-LFS pointer, not the weights: run "git lfs pull" in its repository, or '
            'download the file itself'
        )
    if text.startswith(b'<'):
        raise WeightsError(
            'is a web page (HTML), not weights: the address was that of a page, or it wants a '
            'login. Download the file itself'
        )
    if head.startswith(b'PK'):
        return _kind_of_zip(file)
    if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') <= _HEADER_LIMIT:
        return 'safetensors'
    if head.startswith(b'\x80'):
        return 'pickle'
    raise WeightsError(_other_kind(head, text))


def _other_kind(head: bytes, text: bytes) -> str:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            return f'is {what}; expected .safetensors or a checkpoint of PyTorch'
    if head[257:262] == b'ustar':
        return 'is a tar archive: unpack it'
    if text.startswith((b'{', b'[')):
        return 'is JSON text, not weights; set weights to its folder, or to the file of weights'
    return 'is not a file of weights; expected .safetensors or a checkpoint of PyTorch'


def _kind_of_zip(file: Path) -> str:
    if not zipfile.is_zipfile(file):
        raise WeightsError('is damaged: it is cut off, its end is missing. Download it again')
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    inner = {name.split('/', 1)[-1] for name in names}
    if 'data.pkl' not in inner:
        some = ', '.join(names[:3]) or 'nothing'
        raise WeightsError(f'is a zip archive ({some}), not a checkpoint: unpack it')
    return 'torchscript' if 'constants.pkl' in inner else 'pickle'
