"""Text files as people save them: their encoding, and files that are no text."""

from __future__ import annotations

import codecs
import re
from itertools import pairwise

from ..errors import VocabularyError

# Byte order marks. The four bytes of UTF-32 begin like those of UTF-16, so they come first.
MARKS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}
# First bytes of files that are taken for word files by mistake.
OTHERS = {
    b'PK\x03\x04': 'a zip archive, as .xlsx, .docx and .ods files are',
    b'\xd0\xcf\x11\xe0': 'an old .xls or .doc file',
    b'%PDF': 'a PDF',
    b'{\\rtf': 'an RTF document',
    b'<!DOCTYPE': 'a web page',
    b'<html': 'a web page',
    b'version https://git-lfs': 'a Git LFS pointer (`git lfs pull` gets the file itself)',
}
SAVE = 'save the words as plain text in UTF-8, one per line'
# What Western European languages write in cp1252 beyond ASCII, with quotes, dashes and ellipsis.
# `ÿ` and `Ÿ` are too rare to trust.
_LETTERS = 'A-Za-zÀ-ÖØ-öø-þŒœŠšŽž'
_SIGNS = re.compile(
    f'[\x00-\x7f{_LETTERS}\u2018\u2019\u201c\u201d\u2013\u2014\u2026€£°²³µ½¼\xa0©®™]*'
)
_WORD = re.compile(f'[{_LETTERS}]+')


def decoded(data: bytes) -> str:
    """Return the text of a file: UTF-8, UTF-16 or UTF-32 with a mark, UTF-16 of ASCII letters
    without one, or Windows-1252 (which has all letters of Latin-1) if nothing speaks against it.

    Raises:
        VocabularyError: the file is no text, or its encoding is not certain.
        UnicodeDecodeError: the file has a mark, but is damaged.
    """
    for start, kind in OTHERS.items():
        if data[: len(start)].lower() == start.lower():
            raise VocabularyError(f'it is {kind}, not plain text; {SAVE}')
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    if 0 in data:
        return _without_a_mark(data)
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError as error:
        return _western(data, data.count(b'\n', 0, error.start) + 1, data[error.start])


def _without_a_mark(data: bytes) -> str:
    """Decode UTF-16: of ASCII letters, every second byte is 0."""
    for encoding, high, low in (('utf-16-le', 1, 0), ('utf-16-be', 0, 1)):
        if not any(data[high::2]) and all(data[low::2]) and len(data) % 2 == 0:
            return data.decode(encoding)
    raise VocabularyError(f'it holds NUL bytes: it is binary, or UTF-16 without a mark; {SAVE}')


def _western(data: bytes, line: int, byte: int) -> str:
    """Decode Windows-1252, unless the text would be unlikely in a Western European language.

    In other alphabets most letters of a word are beyond ASCII. In other encodings for the same
    letters, such as Mac Roman, a capital would follow a small letter.
    """
    text = data.decode('cp1252', 'replace')
    if _SIGNS.fullmatch(text) and all(map(_likely, _WORD.findall(text))):
        return text
    raise VocabularyError(
        f'it is not UTF-8 (byte 0x{byte:02x} in line {line}), and which encoding it has is not '
        f'certain; {SAVE}, for example with `iconv -f CP1251 -t UTF-8` if it is Windows-1251'
    )


def _likely(word: str) -> bool:
    beyond = sum(not letter.isascii() for letter in word)
    mixed = any(a.islower() and b.isupper() and not (a + b).isascii() for a, b in pairwise(word))
    return 2 * beyond <= len(word) and not mixed
