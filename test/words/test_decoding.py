"""Word files in the encodings of editors, and files that are no text."""

# ruff: noqa: RUF001 (letters of other scripts are the subject)

import io
import zipfile

import pytest

from cliptrase_ros.errors import VocabularyError
from cliptrase_ros.words import lists

WORDS = ['floor', 'café', 'Löffel', 'crème brûlée', 'ÉTAGÈRE', 'Größe', 'piñata']


def archive():
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w') as file:
        file.writestr('xl/workbook.xml', 'floor')
    return made.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(content, name='words.txt'):
        (tmp_path / name).write_bytes(content)
        return lists.read_words(str(tmp_path / name))[0]

    return read


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize(
    'encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32', 'latin-1', 'cp1252', 'iso8859-15']
)
def test_encodings(read, encoding, end):
    content = end.join(['# words', *WORDS, '']).encode(encoding)
    assert read(content) == WORDS
    assert read(f'[{", ".join(WORDS)}]{end}'.encode(encoding), 'words.yaml') == WORDS


@pytest.mark.parametrize('encoding, mark', [('utf-16-be', b'\xfe\xff'), ('utf-16-le', b'\xff\xfe')])
def test_both_orders_of_utf_16(read, encoding, mark):
    assert read(mark + '椅子\nфлаг'.encode(encoding)) == ['椅子', 'флаг']
    # Without a mark, only ASCII is certain.
    assert read('floor\r\nmug|cup'.encode(encoding)) == ['floor', 'mug|cup']
    with pytest.raises(VocabularyError, match='binary, or UTF-16 without a mark; save the words'):
        read('floor\nстул'.encode(encoding))


def test_quotes_of_word_processors(read):
    assert read('“chef’s knife” – large'.encode('cp1252')) == ['“chef’s knife” – large']


@pytest.mark.parametrize(
    'text, encoding',
    [
        ('floor\nстул', 'cp1251'),
        ('floor\nстул', 'koi8-r'),
        ('floor\n椅子', 'gbk'),
        ('floor\nイス', 'shift-jis'),
        ('floor\n의자', 'euc-kr'),
        ('floor\nκαρέκλα', 'iso8859-7'),
        ('floor\nכיסא', 'cp1255'),
        ('floor\ncafé', 'mac-roman'),
        ('floor\ncafé', 'cp850'),
        ('floor\nłyżka', 'cp1250'),
    ],
)
def test_an_uncertain_encoding_is_not_guessed(read, text, encoding):
    said = (
        r'words.txt: it is not UTF-8 \(byte 0x.. in line 2\).*save the words as plain text in UTF'
    )
    with pytest.raises(VocabularyError, match=said):
        read(text.encode(encoding))


@pytest.mark.parametrize(
    'content, reason',
    [
        (archive(), 'a zip archive, as .xlsx, .docx and .ods'),
        (b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1' + bytes(600), 'an old .xls or .doc'),
        (b'%PDF-1.7\nfloor', 'a PDF'),
        (b'{\\rtf1\\ansi floor}', 'an RTF document'),
        (b'<!doctype html>\n<p>floor', 'a web page'),
        (b'<HTML><p>floor', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'a Git LFS pointer'),
        (b'floor\x00mug', 'it holds NUL bytes'),
        (bytes(64), 'it holds NUL bytes'),
        (b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR', 'it holds NUL bytes'),
        (b'\x1f\x8b\x08\x08\x99\x81\xfe', 'which encoding it has is not certain'),
        (b'\xff\xfef\x00l', r'cannot be read \(.*truncated'),
        (b'\xef\xbb\xbff\xe9', r'cannot be read \(.*utf-8'),
    ],
)
def test_files_that_are_no_text(read, content, reason):
    for name in ('words.txt', 'words.yaml'):
        with pytest.raises(VocabularyError, match=rf'vocabulary: .*{name}.*{reason}'):
            read(content, name)
