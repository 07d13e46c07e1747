"""Evaluation: the counts, resuming a stopped run, and the files that it writes."""

import json
from importlib import metadata

import numpy as np
import PIL
import pytest
import torch
from layouts import build, stripes
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

import cliptrase_ros as ct
from cliptrase_ros.errors import PictureError, SettingError
from cliptrase_ros.evaluation import accuracy, summary
from cliptrase_ros.evaluation.accuracy import (
    Evaluation,
    measure,
    nearest_crop,
    numbers,
    write_worst,
)
from cliptrase_ros.evaluation.datasets import LabelError, open_set
from cliptrase_ros.evaluation.journal import Journal, JournalError
from cliptrase_ros.evaluation.metrics import IGNORED, Confusion
from cliptrase_ros.evaluation.sheets import GREY, sheet
from cliptrase_ros.media import pictures

TINY = {
    'model': 'cliptrase-tiny',
    'weights': 'random',
    'device': 'cpu',
    'prompt_templates': 'none',
    'precision': 'fp32',
    'input_size': 64,
}


@pytest.fixture(scope='module')
def tiny():
    return ct.load(ct.Settings(**TINY))


def evaluate(tiny, root, name, **changes):
    protocol = changes.get('protocol', 'native')
    return Evaluation.of(open_set(name, root, protocol=protocol), tiny.replace(**changes))


def noise(*values, size=(60, 90), seed=0):
    """Return [H, W] with blocks of random values, so that every crop has several values."""
    small = np.random.default_rng(seed).choice(values, (6, 9))
    return np.kron(small, np.ones((size[0] // 6, size[1] // 9), int)).astype(np.uint8)


@pytest.mark.parametrize('protocol', ['native', 'sliding'])
def test_labels_are_compared_with_the_truth_as_it_is(tiny, tmp_path, protocol):
    labels = [noise(0, 1, 2, 255, seed=n) for n in range(3)]
    build(tmp_path, 'folder', labels)
    evaluated = evaluate(tiny, tmp_path, 'folder', protocol=protocol, regions='none')
    outcome = measure(evaluated, evaluated.labelled.examples)
    expected = Confusion(2, background=True, ignored=255)
    for example, truth in zip(evaluated.labelled.examples, labels, strict=True):
        image = pictures.read_picture(example.picture)
        one = Confusion(2, background=True, ignored=255)
        one.add(truth, evaluated.segmenter(image, evaluated.words).labels)
        expected.add_pairs(one.pairs)
        assert outcome.miou[example.name] == one.miou
    assert (outcome.confusion.matrix == expected.matrix).all()
    assert outcome.confusion.matrix.sum() == sum((truth != 255).sum() for truth in labels)
    made = numbers(evaluated, outcome.confusion)
    assert made['miou'] == expected.miou and made['confusion'] == expected.matrix.tolist()
    assert [row['name'] for row in made['classes']] == ['background', 'floor', 'mug']
    assert [row['pixels'] for row in made['classes']] == expected.true.tolist()


@pytest.mark.parametrize('shape', [(60, 90), (90, 61), (33, 33), (101, 57), (64, 64)])
@pytest.mark.parametrize('side', [32, 47, 64])
def test_the_truth_is_cropped_as_by_torchvision(shape, side):
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    crop = Resize(side, interpolation=InterpolationMode.NEAREST)(Image.fromarray(values))
    expected = np.asarray(CenterCrop(side)(crop))
    np.testing.assert_array_equal(nearest_crop(values, side), expected)


@pytest.mark.parametrize('name', ['voc20', 'voc21', 'ade150'])
def test_numbers_of_the_own_protocol_anew(tiny, tmp_path, name):
    """Repeat the official code's numbers with its own class numbers, truth and loop.

    Classes are 0 .. C-1. The truth is shifted down by one, and 0 becomes 255. If background is a
    class, 255 becomes class C; a picture with nothing but 255 is left out before.
    """
    labels = [noise(0, 1, 2, 5, seed=n) for n in range(2)]
    labels += [np.zeros((50, 70), np.uint8), noise(3, 0, seed=7)]
    if name != 'ade150':
        labels[0][10:20] = 255
        labels[2][:25] = 255
    build(tmp_path, name, labels)
    evaluated = evaluate(tiny, tmp_path, name, protocol='cliptrase')
    outcome = measure(evaluated, evaluated.labelled.examples)
    got = numbers(evaluated, outcome.confusion)

    count = len(evaluated.labelled.entries)
    background = name == 'voc21'
    total = count + background
    hist = np.zeros((total, total))
    for example, stored in zip(evaluated.labelled.examples, labels, strict=True):
        shifted = np.where((stored == 0) | (stored == 255), 255, stored - 1).astype(np.uint8)
        crop = Resize(64, interpolation=InterpolationMode.NEAREST)(Image.fromarray(shifted))
        truth = np.asarray(CenterCrop(64)(crop)).astype(int)
        if (truth == 255).all():
            assert outcome.miou[example.name] is None
            continue
        image = pictures.read_picture(example.picture)
        labelled = evaluated.segmenter(image, evaluated.words).labels.astype(int) - 1
        labelled[labelled < 0] = count
        if background:
            truth[truth == 255] = count
        for t, p in zip(truth.ravel(), labelled.ravel(), strict=True):
            if t < total:
                hist[t, p] += 1
    right, true, given = np.diag(hist), hist.sum(1), hist.sum(0)
    iou = right / (true + given - right + 0.01)
    assert got['miou'] == pytest.approx(iou[true > 0].mean(), abs=1e-12)
    assert got['accuracy'] == pytest.approx(right.sum() / hist.sum(), abs=1e-12)
    assert got['class_accuracy'] == pytest.approx((right / (true + 0.01)).mean(), abs=1e-12)
    shares = true / true.sum()
    assert got['fwiou'] == pytest.approx((shares * iou)[true > 0].sum(), abs=1e-12)
    # The usual rule gives another number.
    assert got['class_accuracy'] != pytest.approx(outcome.confusion.scores().class_accuracy)


def test_what_cannot_be_read_is_named_and_skipped(tiny, tmp_path):
    names = build(tmp_path, 'camvid', [stripes([0, 1]), stripes([0, 2]), stripes([0, 3])])
    (tmp_path / 'test' / f'{names[0]}.png').write_bytes(b'no picture')
    (tmp_path / 'testannot' / f'{names[1]}.png').write_bytes(b'no label')
    evaluated, said = evaluate(tiny, tmp_path, 'camvid'), []
    outcome = measure(evaluated, evaluated.labelled.examples, warn=said.append)
    assert list(outcome.unreadable) == names[:2] and list(outcome.miou) == names[2:]
    assert len(said) == 2 and all(text.endswith('is no picture; skipped') for text in said)
    with pytest.raises(PictureError, match='no picture could be read'):
        measure(evaluated, evaluated.labelled.examples[:2])


def test_what_would_make_wrong_numbers_ends_it(tiny, tmp_path):
    names = build(tmp_path, 'camvid', [stripes([0, 1]), stripes([0, 40])])
    evaluated = evaluate(tiny, tmp_path, 'camvid')
    with pytest.raises(LabelError, match='holds the value 40'):
        measure(evaluated, evaluated.labelled.examples)
    Image.fromarray(stripes([0, 1], (48, 63)).astype(np.uint8)).save(
        tmp_path / 'testannot' / f'{names[0]}.png'
    )
    with pytest.raises(LabelError, match=r'is 64 x 48 px, its label .* 63 x 48 px'):
        measure(evaluated, evaluated.labelled.examples)
    with pytest.raises(SettingError, match="output_size: expected 'input'"):
        evaluate(tiny, tmp_path, 'camvid', output_size='32x32')


def test_a_picture_is_taken_as_it_is_stored(tiny, tmp_path):
    """Labels ignore the EXIF orientation."""
    (name,) = build(tmp_path, 'voc20', [stripes([1, 2])])
    path = tmp_path / 'JPEGImages' / f'{name}.jpg'
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(path).save(path, exif=exif)
    evaluated = evaluate(tiny, tmp_path, 'voc20')
    assert measure(evaluated, evaluated.labelled.examples).miou[name] is not None


# Height of the line of text above a panel.
HEAD = 22


class Stop(KeyboardInterrupt):
    pass


def stopping(after):
    """Return a `progress` that is interrupted after `after` pictures."""

    def progress(items, count, done):
        for n, item in enumerate(items):
            if n == after:
                raise Stop
            yield item

    return progress


def counting(seen):
    def progress(items, count, done):
        seen.append((count, done))
        return items

    return progress


def test_it_goes_on_where_it_was_stopped(tiny, tmp_path):
    root, out = tmp_path / 'set', tmp_path / 'out'
    build(root, 'folder', [noise(0, 1, 2, seed=n) for n in range(5)])
    evaluated = evaluate(tiny, root, 'folder')
    examples = evaluated.labelled.examples
    whole = measure(evaluated, examples)
    with Journal(out, evaluated.description()) as journal, pytest.raises(Stop):
        measure(evaluated, examples, journal, progress=stopping(2))
    lines = (out / 'pictures.jsonl').read_text()
    assert lines.count('\n') == 2
    # Simulate a crash in the middle of a line.
    (out / 'pictures.jsonl').write_text(lines + lines.splitlines()[1][:30])
    seen = []
    with Journal(out, evaluated.description()) as journal:
        outcome = measure(evaluated, examples, journal, progress=counting(seen))
    assert seen == [(3, 2)]
    assert (outcome.confusion.matrix == whole.confusion.matrix).all()
    assert outcome.miou == whole.miou
    # Nothing is left to do, also if fewer pictures are asked for than the journal has.
    for few in (5, 3):
        with Journal(out, evaluated.description()) as journal:
            part = measure(evaluated, examples[:few], journal, progress=counting(seen))
        assert seen[-1] == (0, few) and len(part.miou) == few
    assert (part.confusion.matrix == measure(evaluated, examples[:3]).confusion.matrix).all()


def test_what_could_not_be_read_is_tried_again(tiny, tmp_path):
    root, out = tmp_path / 'set', tmp_path / 'out'
    names = build(root, 'folder', [stripes([0, 1]), stripes([1, 2])])
    path = root / 'images' / f'{names[0]}.png'
    content = path.read_bytes()
    path.write_bytes(b'')
    evaluated = evaluate(tiny, root, 'folder')
    for readable in (1, 2):
        with Journal(out, evaluated.description()) as journal:
            outcome = measure(evaluated, evaluated.labelled.examples, journal)
        assert len(outcome.miou) == readable
        path.write_bytes(content)


def test_other_work_is_refused(tiny, tmp_path):
    root, out = tmp_path / 'set', tmp_path / 'out'
    build(root, 'folder', [stripes([0, 1]), stripes([1, 2])])
    one = evaluate(tiny, root, 'folder', method='sclip')
    with Journal(out, one.description()) as journal:
        measure(one, one.labelled.examples, journal)
    for changes, reason in (
        ({'method': 'clip'}, "settings.method was 'sclip', is 'clip'"),
        ({'method': 'sclip', 'logit_scale': 40}, r'settings.logit_scale was .auto., is 40\.0'),
    ):
        other = evaluate(tiny, root, 'folder', **changes)
        with pytest.raises(JournalError, match=f'holds results of another run: {reason}'):
            Journal(out, other.description())
    build(root, 'folder', [stripes([0, 1])], classes=('background', 'wall', 'cup'))
    (root / 'images' / 'b.png').unlink()
    with pytest.raises(JournalError, match=r'pictures.count was 2, is 1; .* more\. Choose'):
        Journal(out, evaluate(tiny, root, 'folder', method='sclip').description())
    # The place of the cache does not change the labels.
    assert 'cache_dir' not in one.description()['settings']


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / 'worst').mkdir()
    (tmp_path / 'worst' / 'thesis.txt').write_text('years of work')
    with pytest.raises(JournalError, match=r"holds 'worst', but no run.json .* an empty folder"):
        Journal(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ['worst']
    (tmp_path / 'pictures.jsonl').write_text('{}\n')
    with pytest.raises(JournalError, match=r"holds 'pictures.jsonl', but no run.json"):
        Journal(tmp_path, {})
    # A hidden part of run.json after a crash, and hidden files of desktops, are allowed.
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / '.run.part.json').write_text('{"a"')
    with Journal(empty, {}):
        assert (empty / 'run.json').is_file()


LINE = '{"picture":"a","miou":0.5,"pairs":[[0,1,2]]}'


@pytest.mark.parametrize('content', [b'{"a": 1', b'', b'\xff{}', b'[1]', b'null', b'[' * 100_000])
def test_a_description_that_is_damaged(tmp_path, content):
    (tmp_path / 'run.json').write_bytes(content)
    with pytest.raises(JournalError, match=r'run.json is .*damaged.*; choose another folder'):
        Journal(tmp_path, {})


@pytest.mark.parametrize(
    'line',
    [
        b'{"a"',
        b'null',
        b'3',
        b'\xff',
        b'{"picture":"\xff","miou":1,"pairs":[]}',
        b'{"picture":"a","miou":1}',
        b'{"picture":1,"miou":1,"pairs":[]}',
        b'{"picture":"a","miou":"1","pairs":[]}',
        b'{"picture":"a","miou":true,"pairs":[]}',
        b'{"picture":"a","miou":1,"pairs":{}}',
        b'{"picture":"a","miou":1,"pairs":[3]}',
        b'{"picture":"a","miou":1,"pairs":[[1,2]]}',
        b'{"picture":"a","miou":1,"pairs":[[1,2,0.5]]}',
        b'{"picture":"a","miou":1,"pairs":[[1,2,-1]]}',
        b'{"picture":"a","miou":1,"pairs":[[1,2,9223372036854775808]]}',
        b'[' * 100_000,
    ],
)
def test_a_journal_that_is_damaged(tmp_path, line):
    (tmp_path / 'run.json').write_text('{}')
    (tmp_path / 'pictures.jsonl').write_bytes(LINE.encode() + b'\n' + line + b'\n')
    with Journal(tmp_path, {}) as journal:
        with pytest.raises(JournalError, match=r'pictures.jsonl, line 2 is damaged'):
            list(journal.lines())
        journal.add({'b': [1, 2]})
    assert (tmp_path / 'pictures.jsonl').read_bytes().endswith(line + b'\n{"b":[1,2]}\n')


def test_what_a_journal_holds(tmp_path):
    lines = [json.loads(LINE), {'picture': 'b', 'miou': None, 'pairs': []}]
    with Journal(tmp_path, {}) as journal:
        for line in lines:
            journal.add(line)
        assert list(journal.lines()) == lines


def test_the_description_says_what_the_labels_depend_on(tiny, tmp_path):
    build(tmp_path, 'voc21', [stripes([0, 1])])
    evaluated = evaluate(tiny, tmp_path, 'voc21', protocol='sliding')
    described = json.loads(json.dumps(evaluated.description()))
    assert described['words']['boat'] == ['ship'] and len(described['background']) == 26
    assert described['background_is_a_class'] and described['arithmetic'] == 'float32'
    assert described['versions']['torch'] == torch.__version__
    assert described['weights_sha256'] is None and described['device'] == 'cpu'
    assert described['settings']['protocol'] == 'sliding' and described['split'] == 'val'
    assert described['pictures'] == {'count': 1, 'sha256': evaluated.labelled.sha256}


def test_versions_of_modules_that_no_record_is_installed_of(tiny, tmp_path, monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', nothing)
    build(tmp_path, 'folder', [stripes([0, 1])])
    versions = evaluate(tiny, tmp_path, 'folder').description()['versions']
    assert (versions['numpy'], versions['pillow']) == (np.__version__, PIL.__version__)
    assert versions['open_clip_torch'].count('.') == 2


def test_weights_in_a_file_are_known_by_their_hash(tmp_path):
    build(tmp_path, 'folder', [stripes([0, 1])])
    demo = ct.load(ct.Settings(model='cliptrase-demo', weights='demo', device='cpu'))
    evaluated = Evaluation.of(open_set('folder', tmp_path), demo)
    assert evaluated.description()['weights_sha256'] == accuracy.weights.DEMO_SHA256


@pytest.mark.parametrize('protocol', ['native', 'cliptrase'])
def test_the_worst_pictures(tiny, tmp_path, protocol):
    root = tmp_path / 'set'
    build(root, 'folder', [noise(0, 1, 2, 255, seed=n) for n in range(4)])
    evaluated = evaluate(tiny, root, 'folder', protocol=protocol)
    outcome = measure(evaluated, evaluated.labelled.examples)
    paths = write_worst(evaluated, outcome, 2, tmp_path / 'worst')
    by_miou = sorted((miou, name) for name, miou in outcome.miou.items())
    assert [path.name for path in paths] == [
        f'0{n}_{name}.png' for n, (_, name) in enumerate(by_miou[:2], 1)
    ]
    height, width = (64, 64) if protocol == 'cliptrase' else (60, 90)
    shown = np.asarray(Image.open(paths[0]))
    assert shown.shape[1] == 3 * width + 8 and shown.shape[0] > HEAD + height
    shown = shown[HEAD:]
    example = next(x for x in evaluated.labelled.examples if x.name == by_miou[0][1])
    image = pictures.read_picture(example.picture)
    np.testing.assert_array_equal(shown[:height, :width], evaluated.segmenter.view(image))
    labels = evaluated.segmenter(image, evaluated.words).labels
    expected = ct.colorize(labels, evaluated.words)
    np.testing.assert_array_equal(shown[:height, 2 * width + 8 :][:, :width], expected)
    # The folder is replaced: its old files are gone.
    assert len(write_worst(evaluated, outcome, 1, tmp_path / 'worst')) == 1
    assert len(list((tmp_path / 'worst').iterdir())) == 1
    (root / 'images' / f'{by_miou[0][1]}.png').unlink()
    with pytest.raises(PictureError, match='cannot be read'):
        write_worst(evaluated, outcome, 1, tmp_path / 'worst')
    assert len(list((tmp_path / 'worst').iterdir())) == 1


def test_a_sheet_has_colours_of_truth_and_labels_and_a_legend():
    words = ct.Vocabulary.from_embeddings(['floor', 'mug'], np.eye(2))
    picture = np.full((40, 400, 3), 77, np.uint8)
    truth = np.repeat([[0, 1, 2, IGNORED]], 40, 0).repeat(100, 1)
    labels = np.ones((40, 400), np.uint8)
    made = sheet(picture, truth.astype(np.uint8), labels, words, 'background')
    made = made[HEAD:]
    assert (made[:40, :400] == 77).all()
    for column, color in ((450, (0, 0, 0)), (550, words.palette[1]), (650, words.palette[2])):
        assert (made[20, column + 4] == color).all()
    assert (made[20, 404 + 350] == GREY).all() and (made[20, 900] == words.palette[1]).all()
    # Squares of 0, floor, mug and the pixels that do not count.
    legend = {tuple(color) for color in made[44:].reshape(-1, 3).tolist()}
    assert {(0, 0, 0), tuple(words.palette[1]), tuple(words.palette[2]), GREY} <= legend
    # Large pictures are reduced.
    large = sheet(
        *(np.repeat(x, 4, 1) for x in (picture, truth.astype(np.uint8), labels)), words, ''
    )
    assert large.shape[1] == 3 * 640 + 8


def test_the_text_for_people():
    row = {'id': 1, 'name': 'floor', 'iou': 0.5, 'accuracy': None, 'pixels': 12}
    result = {
        'dataset': 'voc20',
        'split': 'val',
        'measured': 3,
        'pictures': {'count': 9},
        'settings': {'method': 'sclip', 'model': 'm', 'weights': 'w', 'protocol': 'sliding'},
        'arithmetic': 'float32',
        'device': 'cpu',
        'unreadable': {'a': 'is no picture'},
        'miou': 0.12345,
        'accuracy': 1.0,
        'class_accuracy': None,
        'fwiou': 0.5,
        'classes': [row],
        'differs': ['input_size is 448, not 336'],
        'published': [
            {'source': 'A', 'miou': 0.6, 'conditions': {'refine': 'pamr'}, 'differs': ['x', 'y']},
            {'source': 'B', 'miou': 0.61, 'conditions': {}, 'differs': []},
        ],
        'confusion': [[1, 2], [3, 4]],
    }
    text = summary.text(result)
    for part in (
        'voc20 val, 3 of 9 pictures',
        'mIoU 12.35 %   pixel accuracy 100.00 %   mean class accuracy -   fwIoU 50.00 %',
        '1 pictures could not be read',
        '  - input_size is 448, not 336',
        '60.00 %  A (refine pamr)',
        'not comparable: x; y',
        '61.00 %  B\n         same weights, protocol and settings',
    ):
        assert part in text, part
    assert any(line.split() == ['floor', '50.00', '%', '-', '12'] for line in text.splitlines())
    bare = summary.text({**result, 'differs': [], 'published': [], 'unreadable': {}, 'split': ''})
    assert bare.startswith('voc20, 3') and 'Differences' not in bare and 'No published' in bare
    assert 'mean nothing' not in text
    result['settings']['weights'] = 'random'
    assert 'The weights are random: these numbers mean nothing.' in summary.text(result)
    assert json.loads(summary.dumped(result)) == result
    assert '\n  [1, 2],\n  [3, 4]\n' in summary.dumped(result)
