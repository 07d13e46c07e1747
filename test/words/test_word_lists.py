"""Word files, and the lists that come with the package."""

import pytest

from cliptrase_ros.errors import VocabularyError, WeightsError
from cliptrase_ros.model.weights import file_of, load_model
from cliptrase_ros.words import lists

LISTS = ['ade150', 'indoor', 'kitchen', 'outdoor', 'warehouse']


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_a_word_a_line(file):
    path = file('mine.txt', '# of the lab\nfloor\n\n  7:mug=mug;cup  \n#no\ncafé\n')
    assert lists.read_words(path) == (['floor', '7:mug=mug;cup', 'café'], [])


@pytest.mark.parametrize(
    'content, expected',
    [
        ('[floor, 3, mug|cup]', (['floor', '3', 'mug|cup'], [])),
        ('vocabulary: [floor]\nbackground: [sky, 7]', (['floor'], ['sky', '7'])),
        ('vocabulary: [floor]\nbackground:', (['floor'], [])),
        ('vocabulary: [floor]\nbackground: [""]', (['floor'], [])),
        (
            '/**:\n  ros__parameters:\n    model: x\n    vocabulary: [a, b]\n    background: [c]',
            (['a', 'b'], ['c']),
        ),
        ('other: 1\nnode:\n  ros__parameters: {vocabulary: [a]}', (['a'], [])),
    ],
)
@pytest.mark.parametrize('suffix', ['yaml', 'yml'])
def test_yaml(file, content, expected, suffix):
    assert lists.read_words(file(f'w.{suffix}', content)) == expected


@pytest.mark.parametrize(
    'name, content',
    [
        ('w.txt', '# nothing\n\n'),
        ('w.yaml', ''),
        ('w.yaml', 'just text'),
        ('w.yaml', '[]'),
        ('w.yaml', 'vocabulary: floor'),
        ('w.yaml', 'vocabulary: [floor]\nbackground: sky'),
        ('w.yaml', 'node: {ros__parameters: {background: [sky]}}'),
        ('w.yaml', 'node: {ros__parameters: 3}'),
    ],
)
def test_a_file_without_words(file, name, content):
    with pytest.raises(VocabularyError, match=r'holds no words; write one word per line'):
        lists.read_words(file(name, content))


@pytest.mark.parametrize(
    'name, content',
    [
        ('w.yaml', 'a: [b'),
        ('w.txt', b'\xff\xfe\x00'),
        ('w.yaml', '[floor, 2024-13-45]'),
        ('w.yaml', '[' * 20_000),
    ],
)
def test_a_file_that_cannot_be_read(file, name, content):
    with pytest.raises(VocabularyError, match=rf'{name} cannot be read'):
        lists.read_words(file(name, content))


@pytest.mark.parametrize('word', ['no', 'on', 'null', '2024-01-05', '{7: mug}', '[a]', '~'])
@pytest.mark.parametrize('form', ['[floor, {}]', 'vocabulary: [a]\nbackground: [{}]'])
def test_what_is_no_word_to_yaml_is_named(file, word, form):
    said = r'w.yaml: YAML reads entry .* as \w+, not as a word; quote it'
    with pytest.raises(VocabularyError, match=said):
        lists.read_words(file('w.yaml', form.format(word)))
    if word.isalpha():
        entries, background = lists.read_words(file('w.yaml', form.format(f"'{word}'")))
        assert [*entries, *background][-1] == word


@pytest.mark.parametrize('name, content', [('w.txt', 'floor\nmug'), ('w.yaml', '[floor, mug]')])
def test_a_byte_order_mark_is_no_part_of_a_word(file, name, content):
    path = file(name, b'\xef\xbb\xbf' + content.encode())
    assert lists.read_words(path) == (['floor', 'mug'], [])


def test_lists_of_the_package():
    assert set(LISTS) <= set(lists.word_lists())
    for name in LISTS:
        entries, background = lists.read_words(name)
        assert len(entries) >= 40 and '' not in background


def test_a_file_goes_before_a_list_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'indoor').write_text('only this')
    assert lists.read_words('indoor') == (['only this'], [])


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.txt').write_text('floor')
    assert lists.read_words('~/mine.txt') == (['floor'], [])


def test_the_home_folder_of_nobody():
    with pytest.raises(VocabularyError, match=r"no file '~nobody-of-that-name/mine\.txt'"):
        lists.read_words('~nobody-of-that-name/mine.txt')
    weights = '~nobody-of-that-name/x.safetensors'
    assert str(file_of(weights)) == weights
    with pytest.raises(WeightsError, match='no file ~nobody-of-that-name'):
        load_model('cliptrase-tiny', weights)


def test_lists_are_found_where_ros_installs_them(tmp_path, monkeypatch):
    folder = tmp_path / 'share' / 'cliptrase_ros' / 'config' / 'vocabularies'
    folder.mkdir(parents=True)
    (folder / 'lab.yaml').write_text('[beaker]')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path}')
    assert 'lab' in lists.word_lists()
    assert lists.read_words('lab') == (['beaker'], [])


def test_a_name_that_is_neither_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VocabularyError, match=r"no file 'indor'.*kitchen.*Did you mean 'indoor'"):
        lists.read_words('indor')
    # A folder is not a word file.
    with pytest.raises(VocabularyError, match='no file'):
        lists.read_words(str(tmp_path))
