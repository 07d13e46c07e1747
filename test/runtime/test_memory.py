"""Behaviour if memory runs out: really on the CPU, and with injected errors."""

import ctypes
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from towers import picture

import cliptrase_ros as ct
from cliptrase_ros.model.visual import Tower
from cliptrase_ros.runtime import memory

ROOT = Path(__file__).parents[2]
FULL = torch.cuda.OutOfMemoryError('full')


@pytest.mark.parametrize(
    'allocate', [lambda: torch.empty(1 << 55), lambda: np.empty(1 << 55), lambda: bytes(1 << 60)]
)
def test_a_real_shortage_is_known(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert memory.is_shortage(caught.value)


FAULTS = """
import resource, sys
import numpy as np
from cliptrase_ros.runtime import memory
if 'keep' in sys.argv:
    memory.keep_freed()
def frame():
    blocks = [np.ones(3 << 20, np.uint8) for _ in range(8)]
for _ in range(10):
    frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    frame()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')
def test_memory_of_a_frame_is_kept_for_the_next():
    """Measured by the number of pages that the process gets from the system."""
    faults = [
        int(
            subprocess.run(
                [sys.executable, '-c', FAULTS, how], capture_output=True, check=True, cwd=ROOT
            ).stdout
        )
        for how in ('keep', 'give back')
    ]
    assert faults[0] < 0.1 * faults[1]


@pytest.mark.parametrize(
    'error, shortage',
    [
        (FULL, True),
        (RuntimeError('DefaultCPUAllocator: not enough memory: you tried to'), True),
        (RuntimeError('std::bad_alloc'), True),
        (RuntimeError('size mismatch'), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_a_shortage_is(error, shortage):
    assert memory.is_shortage(error) is shortage


def test_what_the_failed_work_held_is_free():
    held = []

    def work():
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise FULL

    with pytest.raises(ct.OutOfMemory, match='lower input_size') as caught, memory.explained():
        work()
    assert held[0]() is None and caught.value.__cause__ is FULL


def test_halves_come_in_order():
    sizes = []

    def work(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise FULL
        return [2 * item for item in items]

    assert memory.in_halves(work, list(range(7))) == list(range(0, 14, 2))
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


def test_other_errors_and_one_item_that_does_not_fit_end_it():
    sizes = []

    def work(items):
        sizes.append(len(items))
        raise ValueError('no') if 3 in items else FULL

    with pytest.raises(ValueError, match='no'):
        memory.in_halves(work, [1, 3])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        memory.in_halves(work, [1, 2])
    assert sizes == [2, 2, 1]


@pytest.fixture
def at_most(monkeypatch):
    """Limit the memory of the image tower to n images; return the sizes of all batches."""
    embed, sizes = Tower.embed, []

    def limit(n):
        def narrow(tower, images):
            sizes.append(len(images))
            if len(images) > n:
                raise FULL
            return embed(tower, images)

        monkeypatch.setattr(Tower, 'embed', narrow)
        return sizes

    return limit


def segmenter(backbone, **changes):
    return ct.Segmenter(
        backbone, ct.Settings.from_mapping({'precision': 'fp32', 'input_size': 48, **changes})
    )


@pytest.mark.parametrize(
    'changes', [{'regions': 'mean'}, {'present.method': 'tagclip'}, {'refine': 'pamr'}]
)
def test_images_are_encoded_in_smaller_batches(backbone, words, at_most, changes):
    run = segmenter(backbone, **changes)
    images = [picture(48, 64, seed=n) for n in range(5)]
    expected = [run(image, words) for image in images]
    assert at_most(2) == []
    encoded = run.encode_batch(images)
    assert at_most(2) == [5, 2, 3, 1, 2]
    for one, result in zip(encoded, expected, strict=True):
        got = run.label(one, words)
        assert (got.labels == result.labels).mean() > 0.99
        assert np.abs(got.confidence - result.confidence).mean() < 1e-3


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'method': 'resclip', 'resclip.feedback.enabled': True},
        {'method': 'gclip', 'regions': 'none'},
    ],
)
def test_windows_are_encoded_in_smaller_batches(backbone, words, at_most, changes):
    run = segmenter(backbone, sliding={'window_px': 32, 'stride_px': 16}, **changes)
    image = picture(60, 100)
    expected = run.encode(image)
    expected_scores = run.scores(expected, words)
    sizes = at_most(3)
    encoded = run.encode(image)
    assert sizes[-7:] == [8, 4, 2, 2, 4, 2, 2]
    assert torch.allclose(encoded.features, expected.features, atol=1e-5)
    assert torch.allclose(encoded.cls, expected.cls, atol=1e-5)
    assert torch.allclose(run.scores(encoded, words), expected_scores, atol=1e-3)


def test_without_memory_for_one_image_the_settings_that_help_are_named(backbone, words, at_most):
    run = segmenter(backbone)
    sizes = at_most(0)
    helpful = 'input_size or sliding.window_px, set precision to fp16 .* fewer words'
    with pytest.raises(ct.OutOfMemory, match=helpful) as caught:
        run.encode_batch(3 * [picture(48, 64)])
    assert sizes == [3, 1] and isinstance(caught.value, ct.CliptraseError | MemoryError)
    at_most(1)
    assert run(picture(48, 64), words).labels.shape == (48, 64)


@pytest.mark.parametrize('regions', ['none', 'mean'])
def test_labels_that_do_not_fit_are_refused_and_the_next_are_made(backbone, words, regions):
    run = segmenter(backbone, regions='none').replace(regions=regions)
    encoded = run.encode(picture(48, 64))
    endless = replace(encoded, size=(1 << 20, 1 << 20), regions=None)
    with pytest.raises(ct.OutOfMemory):
        run.label(endless, words)
    assert run.label(encoded, words).labels.shape == (48, 64)


def test_scores_and_presence_that_do_not_fit_are_refused(backbone, words, monkeypatch):
    run = segmenter(backbone, present={'method': 'denoise'})
    encoded = run.encode(picture(48, 64))
    many = words.embeddings[:1].expand(1 << 40, -1)
    for call in (run.scores, run.presence):
        with pytest.raises(ct.OutOfMemory):
            call(encoded, replace(words, embeddings=many))
        assert call(encoded, words) is not None


@pytest.fixture(scope='module')
def loaded():
    return ct.Backbone.load(ct.Settings(model='cliptrase-tiny', weights='random', device='cpu'))


@pytest.fixture
def tiny(loaded, tmp_path):
    """Return a segmenter with a text encoder and an empty cache of words."""
    settings = ct.Settings(prompt_templates='imagenet80', cache_dir=str(tmp_path))
    assert loaded.text.cuts_context
    return ct.Segmenter(loaded, settings)


@pytest.fixture
def narrow(loaded):
    """Limit the memory of the text tower to `most()` sentences at a time."""
    hooks = []

    def limit(most):
        def check(module, args):
            if len(args[0]) > most():
                raise FULL

        hooks.append(loaded.text._model.token_embedding.register_forward_pre_hook(check))

    yield limit
    for hook in hooks:
        hook.remove()


def test_sentences_are_encoded_in_smaller_batches(tiny, narrow):
    text = tiny.backbone.text
    sentences = [f'{n} doors' for n in range(30)]
    expected = text.encode(sentences)
    limits = iter([4] * 40)
    narrow(lambda: next(limits))
    assert torch.allclose(text.encode(sentences), expected, atol=1e-6)
    assert len(list(limits)) == 40 - 15  # 30, 15, 7, 3, 4, 8, 4, 4, and again


def test_words_that_do_not_fit_are_refused_and_what_was_encoded_stays(tiny, narrow):
    passes = []
    narrow(lambda: 0 if len(passes) > 2 else passes.append(0) or 80)
    with pytest.raises(ct.OutOfMemory):
        tiny.vocabulary(['floor', 'mug'])
    assert len(passes) == 3
    passes.clear()
    tiny.vocabulary(['floor', 'mug'])
    assert len(passes) == 2  # 'floor' came from the cache


@pytest.mark.slow
def test_with_a_limit_of_the_system_images_are_encoded_in_parts_or_refused():
    """The address space suffices for a part of the images, then for none, then for all again."""
    program = """
import resource
import numpy as np
import torch
import cliptrase_ros as ct

torch.set_num_threads(1)
settings = ct.Settings(model='cliptrase-tiny', weights='random', device='cpu', regions='none')
run = ct.load(settings.replace(precision='fp32', input_size=224))
words = ct.Vocabulary.from_embeddings(['a', 'b'], np.eye(2, 64))
images = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3)).astype(np.uint8)
expected = run(images[-1], words).labels

def allow(megabytes):
    pages = int(open('/proc/self/statm').read().split()[0])
    limit = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

encode, sizes = run.encoder._together, []
run.encoder._together = lambda *part: (sizes.append(len(part)), encode(*part))[1]
allow(24)
encoded = run.encode_batch(images)
print(sizes[0], len(sizes) > 1)
print(len(encoded), (run.label(encoded[-1], words).labels == expected).mean() > 0.99)
del encoded
allow(1)
try:
    run.encode(images[0])
except ct.OutOfMemory as error:
    print(str(error)[:14])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((run(images[-1], words).labels == expected).all())
"""
    done = subprocess.run(
        [sys.executable, '-c', program],
        cwd=Path(__file__).parents[2],
        # With this threshold, large blocks return to the system when they are freed.
        env={**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        '32 True',
        '32 True',
        'out of memory:',
        'True',
    ], done
