"""What people have as weights: files and folders of many programs, and what is none."""

import argparse
import collections
import gzip
import hashlib
import io
import json
import logging
import pickle
import shutil
import tarfile
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
from checkpoint_files import openai_numbers, save_torchscript, tiny_clip
from safetensors.torch import save, save_file

from cliptrase_ros.errors import WeightsError
from cliptrase_ros.model import beside, checkpoints


@pytest.fixture(scope='module')
def state():
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in tiny_clip().state_dict().items()}


def same(found, state):
    return found.keys() == state.keys() and all(torch.equal(found[n], state[n]) for n in state)


# ------------------------------------------------------------------------------ files


def with_legacy_format(tree, path):
    torch.save(tree, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize('suffix', ['.safetensors', '.pt', '.pth', '.bin', '.ckpt', '.PT', ''])
@pytest.mark.parametrize('write', [save_file, torch.save, with_legacy_format])
def test_the_name_of_a_file_does_not_matter(write, suffix, state, tmp_path):
    path = tmp_path / f'weights{suffix}'
    write(state, path)
    assert same(checkpoints.read(path).state, state)


@pytest.mark.parametrize(
    'value',
    [
        argparse.Namespace(lr=0.1, tags=['a']),
        *(np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)),
        collections.OrderedDict(a=1),
        torch.Size([2]),
        None,
    ],
)
def test_training_files_hold_harmless_values_too(value, state, tmp_path):
    torch.save({'epoch': 3, 'args': value, 'state_dict': state}, tmp_path / 'a.pt')
    assert same(checkpoints.read(tmp_path / 'a.pt').state, state)


def test_numbers_that_numpy_1_saved(state, tmp_path):
    torch.save({'best': np.float64(0.5), 'state_dict': state}, tmp_path / 'a.pt')
    with zipfile.ZipFile(tmp_path / 'a.pt') as old, zipfile.ZipFile(tmp_path / 'b.pt', 'w') as new:
        for name in old.namelist():
            content = old.read(name).replace(b'numpy._core.multi', b'numpy.core.multi')
            new.writestr(name, content)
    assert same(checkpoints.read(tmp_path / 'b.pt').state, state)


class Opens:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('write', [torch.save, with_legacy_format])
def test_code_in_a_file_is_named_and_not_run(write, state, tmp_path):
    write({'state_dict': state, 'more': Opens(tmp_path / 'made')}, tmp_path / 'a.pt')
    with pytest.raises(WeightsError, match=r'more than tensors \(.*open\).*save its state dict'):
        checkpoints.read(tmp_path / 'a.pt')
    assert not (tmp_path / 'made').exists()


def test_a_whole_pickled_model_is_named(tmp_path):
    torch.save(tiny_clip(), tmp_path / 'a.pt')
    with pytest.raises(WeightsError, match=r'more than tensors \(open_clip\.model\.CLIP\)'):
        checkpoints.read(tmp_path / 'a.pt')


# ------------------------------------------------------------------------------ TorchScript


@pytest.mark.parametrize('half', [False, True])
def test_a_torchscript_archive_has_the_tensors_that_torch_finds(half, tmp_path):
    model = tiny_clip(quick_gelu=True).eval()
    model = model.half() if half else model
    model.visual.conv1.weight.data = model.visual.conv1.weight.data.transpose(2, 3)  # strides
    expected = {n: t.clone() for n, t in model.state_dict().items()}
    save_torchscript(model, tmp_path / 'a', openai_numbers())
    with pytest.warns(FutureWarning, match='torch.jit.load'):
        theirs = torch.jit.load(tmp_path / 'a').state_dict()
    assert theirs.keys() >= openai_numbers().keys()
    found = checkpoints.read(tmp_path / 'a')
    state = {n: t for n, t in found.state.items() if not n.endswith('attn_mask')}
    assert same(state, expected) and all(torch.equal(theirs[n], state[n]) for n in state)
    assert found.about.quick_gelu is True


@pytest.mark.parametrize('quick_gelu', [True, False])
def test_a_torchscript_archive_of_open_clip_says_its_activation(quick_gelu, tmp_path):
    save_torchscript(tiny_clip(quick_gelu=quick_gelu).eval(), tmp_path / 'a.pt')
    assert checkpoints.read(tmp_path / 'a.pt').about.quick_gelu is quick_gelu


def test_code_in_a_torchscript_archive_is_named_and_not_run(tmp_path):
    save_torchscript(tiny_clip().eval(), tmp_path / 'a.pt')
    with zipfile.ZipFile(tmp_path / 'a.pt') as old, zipfile.ZipFile(tmp_path / 'b.pt', 'w') as new:
        for name in old.namelist():
            code = name.endswith('/data.pkl')
            evil = pickle.dumps(Opens(tmp_path / 'made')) if code else old.read(name)
            new.writestr(name, evil)
    with pytest.raises(WeightsError, match=r'more than tensors \(.*open\)'):
        checkpoints.read(tmp_path / 'b.pt')
    assert not (tmp_path / 'made').exists()


def test_a_state_dict_of_openais_archive_says_quickgelu(state, tmp_path):
    torch.save({**state, **openai_numbers()}, tmp_path / 'a.pt')
    found = checkpoints.read(tmp_path / 'a.pt')
    assert same(found.state, state) and found.about.quick_gelu is True


# ------------------------------------------------------------------------------ damaged, foreign


def content_of(write, state):
    buffer = io.BytesIO()
    write(state, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize('share', [0.001, 0.5, 0.99])
@pytest.mark.parametrize('write', [torch.save, with_legacy_format])
def test_a_cut_checkpoint_is_named(write, share, state, tmp_path):
    content = content_of(write, state)
    (tmp_path / 'a.pt').write_bytes(content[: max(int(share * len(content)), 8)])
    with pytest.raises(WeightsError, match=r'a\.pt is damaged.*cut off.*Download it again'):
        checkpoints.read(tmp_path / 'a.pt')


@pytest.mark.parametrize('size', [9, 100, -1])
def test_a_cut_safetensors_file_says_how_much_is_there(size, state, tmp_path):
    content = save(state)
    (tmp_path / 'a').write_bytes(content[:size])
    there = len(content[:size])
    with pytest.raises(WeightsError, match=rf'is cut off, {there:,} of at least .* bytes') as error:
        checkpoints.read(tmp_path / 'a')
    assert (f' of at least {len(content):,} bytes' in str(error.value)) == (size == -1)


@pytest.mark.parametrize('header', [b'{"a"', b'{"a":[1]}', b'{"a":{"data_offsets":[]}}'])
def test_a_damaged_header_of_safetensors_is_named(header, tmp_path):
    (tmp_path / 'a').write_bytes(len(header).to_bytes(8, 'little') + header)
    with pytest.raises(WeightsError, match='is damaged'):
        checkpoints.read(tmp_path / 'a')


def a_zip(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name in names:
            archive.writestr(name, b'x')
    return buffer.getvalue()


def a_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('a.pt'))
    return buffer.getvalue()


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 598641023\n'


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (POINTER, 'is a Git-LFS pointer.*git lfs pull'),
        (b'<!DOCTYPE html>\n<html><body>Sign in</body></html>', r'is a web page \(HTML\)'),
        (b'\xef\xbb\xbf\n  <HTML>', 'is a web page'),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'is a web page'),
        (b'{"error": "Invalid username or password."}', 'is JSON text'),
        (b'', 'is damaged: it is empty'),
        (bytes(4096), 'is damaged: it is empty or holds zeros'),
        (b'Entry not found', 'is not a file of weights; expected'),
        (gzip.compress(b'x', mtime=0), 'is compressed with gzip: unpack it'),
        (a_zip(['clip/ViT-B-16.pt', 'clip/read.me']), r'is a zip archive \(clip/ViT-B-16\.pt'),
        (a_zip(['params/img.npy']), r'is a zip archive \(params/img\.npy\)'),
        (a_zip([]), r'is a zip archive \(nothing\)'),
        (a_tar(), 'is a tar archive: unpack it'),
        (b'GGUF\3\0\0\0', 'is a GGUF file; expected'),
        (b'\x89HDF\r\n\x1a\n', r'is an HDF5 file \(Keras\)'),
        (b'\x93NUMPY\1\0', 'is a NumPy array'),
        (pickle.dumps({'a': np.zeros(2)}), 'holds more than tensors'),
        (pickle.dumps(Fraction(1)), 'holds more than tensors'),
    ],
)
def test_what_is_no_weights_is_named(content, reason, tmp_path):
    for name in ('a.pt', 'a.safetensors', 'a'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f'weights: .*{name} {reason}'):
            checkpoints.read(tmp_path / name)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / 'link').symlink_to('../blobs/12ab')
    for path, reason in (
        (tmp_path / 'a.pt', r'no file .*a\.pt$'),
        (tmp_path / 'link', r'a link to \.\./blobs/12ab, which does not exist'),
        ('https://example.org/clip.pt', 'an address cannot be read; download'),
        ('laion/CLIP-ViT-B-32', 'model hf-hub:laion/CLIP-ViT-B-32'),
    ):
        with pytest.raises(WeightsError, match=reason):
            checkpoints.read(type(tmp_path)(path))


def test_a_file_that_may_not_be_read(state, tmp_path, monkeypatch):
    path = tmp_path / 'a.pt'
    torch.save(state, path)

    def refused(*arguments):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(type(path), 'open', refused)
    with pytest.raises(WeightsError, match=r'a\.pt cannot be read \(.*Permission denied'):
        checkpoints.read(path)
    with pytest.raises(WeightsError, match='cannot be read'):
        checkpoints.sha256_of(path)


# ------------------------------------------------------------------------------ folders


@pytest.mark.parametrize('name', [*checkpoints.NAMES[:3], checkpoints.NAMES[4]])
def test_folders_in_the_hubs_layout(name, state, tmp_path):
    write = save_file if name.endswith('safetensors') else torch.save
    write(state, tmp_path / name)
    torch.save({}, tmp_path / 'training_args.bin')
    (tmp_path / 'README.md').write_text('a model')
    found = checkpoints.read(tmp_path)
    assert same(found.state, state) and found.file == tmp_path / name
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert checkpoints.sha256_of(tmp_path) == digest
    assert same(checkpoints.read(tmp_path, digest).state, state)
    with pytest.raises(WeightsError, match=f'{name} has SHA-256 {digest}, expected 00'):
        checkpoints.read(tmp_path, '00')


def test_of_several_the_usual_name_is_taken(state, tmp_path):
    save_file(state, tmp_path / 'open_clip_model.safetensors')
    save_file({'a': torch.ones(1)}, tmp_path / 'model.safetensors')
    assert same(checkpoints.read(tmp_path).state, state)


def test_a_folder_with_one_file_of_another_name(state, tmp_path):
    torch.save(state, tmp_path / 'epoch_32')
    (tmp_path / 'notes.bin').write_bytes(POINTER)
    (tmp_path / 'deeper').mkdir()
    assert same(checkpoints.read(tmp_path).state, state)
    save_file(state, tmp_path / 'epoch_31')
    with pytest.raises(WeightsError, match=r'several files of weights \(epoch_31, epoch_32\)'):
        checkpoints.read(tmp_path)


def test_folders_without_weights(tmp_path):
    with pytest.raises(WeightsError, match=r'holds no file of weights \(nothing\)'):
        checkpoints.read(tmp_path)
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(WeightsError, match=r'no file of weights \(config\.json\)'):
        checkpoints.sha256_of(tmp_path)


def test_a_repository_of_the_hubs_cache(state, tmp_path):
    (tmp_path / 'refs').mkdir()
    (tmp_path / 'refs' / 'main').write_text('12ab\n')
    snapshot = tmp_path / 'snapshots' / '12ab'
    snapshot.mkdir(parents=True)
    save_file(state, snapshot / 'model.safetensors')
    assert same(checkpoints.read(tmp_path).state, state)


@pytest.fixture
def in_parts(state, tmp_path):
    names = sorted(state)
    where = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f'model-{number:05}-of-00002.safetensors'
        save_file({n: state[n] for n in part}, tmp_path / file)
        where.update(dict.fromkeys(part, file))
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': where}))
    return tmp_path


def test_weights_in_parts(in_parts, state):
    for path in (in_parts, in_parts / 'model.safetensors.index.json'):
        assert same(checkpoints.read(path).state, state)
    parts = sorted(in_parts.glob('*.safetensors'))
    digest = hashlib.sha256(b''.join(part.read_bytes() for part in parts)).hexdigest()
    assert checkpoints.sha256_of(in_parts) == digest
    assert same(checkpoints.read(in_parts, digest).state, state)
    with pytest.raises(WeightsError, match='is one of several parts: set weights to the folder'):
        checkpoints.read(parts[0])


def test_lost_parts_are_named(in_parts):
    index = in_parts / 'model.safetensors.index.json'
    shutil.move(in_parts / 'model-00002-of-00002.safetensors', in_parts / 'other')
    with pytest.raises(WeightsError, match=r'names model-00002-of-00002\.safetensors, not beside'):
        checkpoints.read(in_parts)
    index.write_text(json.dumps({'weight_map': {'a': '../../other'}}))
    with pytest.raises(WeightsError, match=r'names .*other, not beside'):
        checkpoints.sha256_of(index)
    index.write_text(json.dumps({'weight_map': {}}))
    with pytest.raises(WeightsError, match='names no part'):
        checkpoints.read(index)
    for content in ('{}', '{"weight_map": 1}', '{'):
        index.write_text(content)
        with pytest.raises(WeightsError, match='is JSON text, not weights'):
            checkpoints.read(index)


# ------------------------------------------------------------------------------ files beside

OPEN_CLIP = {
    'model_cfg': {'quick_gelu': True, 'vision_cfg': {}, 'text_cfg': {}},
    'preprocess_cfg': {'mean': [0.5, 0.4, 0.3], 'std': [1, 1, 2]},
}
CLIP = {'model_type': 'clip', 'vision_config': {'hidden_act': 'gelu'}}
IMAGES = {'image_mean': [0.5, 0.4, 0.3], 'image_std': [1, 1, 2]}
STATISTICS = {'mean': (0.5, 0.4, 0.3), 'std': (1.0, 1.0, 2.0)}


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({}, {}),
        ({'open_clip_config': OPEN_CLIP}, {'quick_gelu': True, **STATISTICS}),
        ({'open_clip_config': {'model_cfg': {}}}, {'quick_gelu': False}),
        ({'open_clip_config': OPEN_CLIP, 'config': CLIP}, {'quick_gelu': True, **STATISTICS}),
        ({'config': CLIP}, {'quick_gelu': False}),
        ({'config': CLIP, 'preprocessor_config': IMAGES}, {'quick_gelu': False, **STATISTICS}),
        ({'config': {'model_type': 'clip'}}, {'quick_gelu': True}),
        ({'config': {'model_type': 'clip', 'vision_config': {'hidden_act': 'tanh'}}}, {}),
        ({'config': {'model_type': 'bert'}}, {}),
        ({'config': []}, {}),
        ({'config': CLIP, 'preprocessor_config': {'image_mean': [1, 2]}}, {'quick_gelu': False}),
        ({'config': CLIP, 'preprocessor_config': {'image_std': 'abc'}}, {'quick_gelu': False}),
        (
            {'config': CLIP, 'preprocessor_config': {'image_std': [1, 1, True]}},
            {'quick_gelu': False},
        ),
    ],
)
def test_what_the_files_beside_say(files, expected, tmp_path):
    for name, content in files.items():
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    assert beside.read(tmp_path) == beside.About(**expected)


def test_a_config_counts_only_for_files_of_usual_names(state, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(CLIP))
    save_file(state, tmp_path / 'mine.safetensors')
    assert checkpoints.read(tmp_path / 'mine.safetensors').about.quick_gelu is None
    assert checkpoints.read(tmp_path).about.quick_gelu is False
    shutil.move(tmp_path / 'mine.safetensors', tmp_path / 'model.safetensors')
    assert checkpoints.read(tmp_path / 'model.safetensors').about.quick_gelu is False


def test_a_config_that_is_no_json_says_nothing(tmp_path):
    (tmp_path / 'config.json').write_bytes(b'\xff{')
    assert beside.read(tmp_path) == beside.About()


def test_the_running_average_beside_is_reported(state, tmp_path, caplog):
    torch.save({'model': state, 'model_ema': {}}, tmp_path / 'a.pt')
    with caplog.at_level(logging.INFO):
        checkpoints.read(tmp_path / 'a.pt')
        assert not caplog.records
        torch.save({'model': state, 'model_ema': {'module': state}}, tmp_path / 'a.pt')
        assert same(checkpoints.read(tmp_path / 'a.pt').state, state)
    assert 'a running average is there too' in caplog.text
