import dataclasses
import gc
import logging
import weakref

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from towers import TINY_PATCH, make_turned_visual, make_visual, picture

import cliptrase_ros as ct
from cliptrase_ros import encoder
from cliptrase_ros.errors import Cancelled
from cliptrase_ros.labels import clusters, voting
from cliptrase_ros.labels import refine as rule
from cliptrase_ros.labels.queries import on_device
from cliptrase_ros.model import recipes
from cliptrase_ros.model.preprocessing import centre_crop, resize_plainly
from cliptrase_ros.model.windows import sliding_size
from cliptrase_ros.settings import IMAGE, scope_names
from cliptrase_ros.video.smoothing import Smoother

NATIVE = {'precision': 'fp32', 'input_size': 48}


def segmenter(backbone, **changes):
    return ct.Segmenter(backbone, ct.Settings.from_mapping({**NATIVE, **changes}))


@pytest.mark.parametrize('shape', [(48, 64), (100, 70), (37, 200), (1, 1), (3, 20), (480, 640)])
@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
def test_labels_have_the_size_of_the_image(backbone, words, shape, regions):
    result = segmenter(backbone, regions=regions)(picture(*shape), words)
    assert result.labels.shape == result.confidence.shape == shape
    assert result.labels.dtype == np.uint8 and result.confidence.dtype == np.float32
    assert set(np.unique(result.labels)) <= set(range(6))
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1
    assert ((result.confidence == 0) >= (result.labels == 0)).all()


def test_the_grid_keeps_the_aspect(backbone):
    encoded = segmenter(backbone).encode(picture(96, 160))
    assert encoded.features.shape == (6, 10, 16)
    assert encoded.affinity.shape == (60, 60)
    assert encoded.clusters.shape == (6, 10)
    assert encoded.size == (96, 160) and encoded.working_size == (48, 80)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[[0, 0, 0]]],
        torch.zeros(4, 4, 3, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(backbone, words, image):
    with pytest.raises(ct.ShapeError, match=r'expected (\[H, W, 3\] uint8 RGB|a numpy array)'):
        segmenter(backbone)(image, words)


@pytest.mark.parametrize('shape', [(1, 9), (2000, 10)])
def test_strips_are_refused(backbone, words, shape):
    with pytest.raises(ct.ShapeError, match='more than 8 times'):
        segmenter(backbone)(picture(*shape), words)


def test_views_and_read_only_images_are_taken(backbone, words):
    image = picture(64, 48)
    view = np.ascontiguousarray(image[::-1, :, ::-1])[::-1, :, ::-1]
    view.flags.writeable = False
    run = segmenter(backbone)
    assert (run(view, words).labels == run(image, words).labels).all()


def test_words_of_another_model_are_refused(backbone):
    words = ct.Vocabulary.from_embeddings(['a', 'b'], np.eye(2, 7))
    with pytest.raises(ct.ShapeError, match='7 channels, the image features 16'):
        segmenter(backbone)(picture(48, 48), words)


def test_unsure_pixels_become_unlabelled(backbone, words):
    image = picture(64, 64)
    sure = segmenter(backbone, regions='none', logit_scale=10.0)
    result = sure(image, words)
    threshold = float(np.median(result.confidence[result.labels > 0]))
    cut = sure.replace(confidence_threshold=threshold)(image, words)
    kept = result.confidence >= threshold
    assert 0 < kept.sum() < kept.size
    assert (cut.labels == np.where(kept, result.labels, 0)).all()
    assert (cut.confidence[~kept] == 0).all()


def test_background_words_leave_pixels_unlabelled(backbone, words):
    image = picture(64, 64)
    plain = segmenter(backbone, regions='none')
    result = plain(image, words)
    assert (result.labels == 0).any() and (result.labels > 0).any()
    alone = ct.Vocabulary.from_embeddings(list('abcde'), words.embeddings[:5])
    everywhere = plain(image, alone)
    assert (everywhere.labels > 0).all()
    labelled = result.labels > 0
    assert (everywhere.labels[labelled] == result.labels[labelled]).all()


def test_the_scale_sharpens_the_confidence_and_moves_no_label(backbone, words):
    image = picture(64, 64)
    soft = segmenter(backbone, logit_scale=10.0)(image, words)
    sharp = segmenter(backbone, logit_scale=100.0)(image, words)
    default = segmenter(backbone)(image, words)
    assert (soft.labels == sharp.labels).all()
    assert (default.confidence == sharp.confidence).all()
    labelled = soft.labels > 0
    assert sharp.confidence[labelled].max() > soft.confidence[labelled].max()


def test_synonyms_speak_for_one_class(backbone, words, monkeypatch):
    image = picture(64, 64)
    run = segmenter(backbone, regions='none')
    apart = run(image, words)
    owner = torch.tensor([0, 0, 1, 2, 3, 4, 4])
    classes = tuple(ct.WordClass(n, f'w{n}', (f'w{n}',)) for n in range(1, 5))
    joined = run(image, ct.Vocabulary(classes, (), words.embeddings, owner))
    expected = np.array([0, 1, 1, 2, 3, 4])[apart.labels]
    assert (joined.labels == expected).all()


def test_regions_mean_gives_a_region_one_confidence(backbone, words):
    result = segmenter(backbone, regions='mean', cluster={'eps': 1.0, 'min_samples': 3})(
        picture(64, 64, seed=1), words
    )
    assert len(np.unique(result.confidence)) <= 12


def test_a_picture_of_noise_only_keeps_each_pixel(backbone, words):
    image = picture(64, 64)
    noise = segmenter(backbone, cluster={'eps': 1e-6})
    assert int(noise.encode(image).clusters.max()) == -1
    assert (
        noise(image, words).labels == segmenter(backbone, regions='none')(image, words).labels
    ).all()


def test_without_regions_nothing_is_clustered(backbone):
    encoded = segmenter(backbone, regions='none').encode(picture(48, 48))
    assert encoded.affinity is None and encoded.clusters is None


def test_one_window_over_everything_is_the_whole_image(backbone, words):
    image = picture(96, 96)
    whole = segmenter(backbone)
    sliding = segmenter(backbone, sliding={'window_px': 48, 'stride_px': 16})
    assert sliding.encode(image).features.shape == (1, 6, 6, 16)
    a, b = whole(image, words), sliding(image, words)
    assert (a.labels == b.labels).mean() > 0.97  # the windows are resampled once more


@pytest.mark.parametrize('regions', ['vote', 'none'])
@pytest.mark.parametrize('cls_weighting', [True, False])
def test_windows_cover_a_wide_image(backbone, words, regions, cls_weighting):
    sliding = segmenter(
        backbone,
        sliding={'window_px': 32, 'stride_px': 16},
        regions=regions,
        cls_weighting=cls_weighting,
    )
    image = picture(60, 100)
    encoded = sliding.encode(image)
    assert encoded.features.shape == (2 * 4, 4, 4, 16)
    assert encoded.working_size == (48, 80)
    assert (encoded.clusters is None) == (regions == 'none')
    assert sliding.label(encoded, words).labels.shape == (60, 100)


@pytest.mark.parametrize('shape', [(60, 97), (97, 60), (48, 48)])
@pytest.mark.parametrize('window', [{}, {'sliding.window_px': 32, 'sliding.stride_px': 16}])
@pytest.mark.parametrize('regions', ['none', 'vote'])
def test_the_sliding_protocol(backbone, words, shape, window, regions):
    image = picture(*shape)
    options = {**window, 'regions': regions, 'cluster.eps': 1.0, 'cluster.min_samples': 3}
    run = segmenter(backbone, protocol='sliding', **options)
    encoded = run.encode(image)
    # The same by hand: resize, and without windows cut to whole patches. The native protocol then
    # changes no pixel of that picture.
    size = sliding_size(*shape, 48)
    by_hand = resize_plainly(torch.from_numpy(image), size).byte().permute(1, 2, 0).numpy()
    if not window:
        by_hand = by_hand[: size[0] // 8 * 8, : size[1] // 8 * 8]
    expected = segmenter(backbone, **{**options, 'regions': 'none'}).encode(by_hand)
    assert torch.equal(encoded.features, expected.features)
    assert encoded.offsets == expected.offsets and encoded.working_size == by_hand.shape[:2]
    assert encoded.size == shape == run.label(encoded, words).labels.shape
    logits = run.scores(encoded, words)
    whole = F.interpolate(logits[None], size=shape, mode='bilinear', align_corners=False)[0]
    if regions == 'none':
        best = words.label_ids[words.owner[whole.argmax(0).cpu()]]
        assert (best.numpy() == run.label(encoded, words).labels).mean() > 0.999
    else:
        assert encoded.regions.shape == shape


def test_the_resizing_of_the_sliding_protocol_is_opencvs():
    image = picture(90, 131)
    for size in ((48, 70), (200, 291)):
        got = resize_plainly(torch.from_numpy(image), size).permute(1, 2, 0).numpy()
        expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        assert got.shape == expected.shape
        apart = np.abs(got - expected)
        assert apart.max() <= 1 and (apart == 0).mean() > 0.8


def test_an_image_too_long_for_the_windows_of_the_sliding_protocol(backbone):
    run = segmenter(
        backbone, protocol='sliding', input_size=448, sliding={'window_px': 448, 'stride_px': 224}
    )
    with pytest.raises(ct.ShapeError, match='2048 x 341 px, less than a window of 448 px'):
        run.encode(picture(10, 60))


@pytest.mark.parametrize('regions', ['none', 'vote'])
@pytest.mark.parametrize('share', [0.05, 0.2, 0.5, 1.0])
def test_words_that_cover_little_lose_it_to_the_next_best(backbone, words, regions, share):
    options = {'regions': regions, 'cluster.eps': 1.0, 'cluster.min_samples': 3}
    run, image = segmenter(backbone, **options), picture(60, 90)
    encoded = run.encode(image)
    before = run.label(encoded, words).labels
    areas = {c.id: (before == c.id).sum() for c in words.classes}
    large = {k for k, area in areas.items() if area > share * sum(areas.values())}
    result = segmenter(backbone, area_threshold=share, **options).label(encoded, words)
    kept = torch.tensor([c.id in large for c in words.classes])
    expected = run.label(encoded, words, present=kept)
    assert (result.labels == expected.labels).all()
    # A removed word does not count as the second best for the margin.
    options['margin_threshold'] = 0.01
    strict, alike = (
        segmenter(backbone, area_threshold=share, **options),
        segmenter(backbone, **options),
    )
    margins = strict.label(encoded, words).labels
    assert (margins == alike.label(encoded, words, present=kept).labels).all()
    # Removed words still count in the probabilities.
    logits = run.scores(encoded, words)
    whole = F.interpolate(logits[None], size=before.shape, mode='bilinear', align_corners=False)
    shares = whole[0].softmax(0).cpu()
    ids = words.label_ids[words.owner]
    of_label = torch.where(ids[:, None, None] == torch.from_numpy(result.labels).long(), shares, 0)
    of_label = of_label.amax(0).numpy() * (result.labels > 0)
    np.testing.assert_allclose(result.confidence, of_label, atol=1e-4)
    if share == 1.0:
        assert not large and not result.labels.any()


def test_windows_must_fit_the_patches(backbone):
    with pytest.raises(ct.SettingError, match='is no multiple of the patch size, 8 px'):
        segmenter(backbone, sliding={'window_px': 33, 'stride_px': 16})
    with pytest.raises(ct.SettingError, match='is no multiple of the patch size, 8 px'):
        segmenter(backbone, protocol='cliptrase', input_size=50)


@pytest.mark.parametrize('shape', [(50, 90), (90, 50), (64, 64), (33, 47)])
def test_the_papers_protocol_is_resize_and_centre_crop(backbone, words, shape):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = picture(*shape)
    published = Compose([Resize(40, interpolation=InterpolationMode.BICUBIC), CenterCrop(40)])
    assert (centre_crop(image, 40) == np.asarray(published(Image.fromarray(image)))).all()
    result = segmenter(backbone, protocol='cliptrase', input_size=40)(image, words)
    assert result.labels.shape == (40, 40)


@pytest.mark.parametrize(
    'precision, regions',
    [('bf16', 'none'), ('fp16', 'none'), ('fp16', 'vote'), ('fp16', 'mean')],
)
@pytest.mark.parametrize('refine', ['none', 'guided', 'pamr'])
def test_low_precision_agrees_with_float32(backbone, words, precision, regions, refine):
    image = picture(96, 128, seed=4)
    options = {'regions': regions, 'cluster.eps': 1.0, 'cluster.min_samples': 3, 'refine': refine}
    full = segmenter(backbone, **options)(image, words)
    low = segmenter(backbone, precision=precision, **options)(image, words)
    assert (full.labels == low.labels).mean() > 0.95


def test_the_view_is_what_labels_are_for(backbone):
    image = picture(48, 64)
    assert segmenter(backbone).view(image) is image
    crop = segmenter(backbone, protocol='cliptrase', input_size=40).view(image)
    assert (crop == centre_crop(image, 40)).all()


def test_what_the_backbone_was_loaded_with_cannot_be_replaced(backbone):
    with pytest.raises(ct.SettingError, match='model: belongs to the backbone'):
        segmenter(backbone).replace(method='clip', model='ViT-B-32')


def test_encoding_words_can_be_given_up(tiny):
    parsed = tiny.check_vocabulary(['a word nobody has', 'and another'])
    with pytest.raises(Cancelled):
        tiny.encode_words(*parsed, cancelled=lambda: True)
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        tiny.encode_words(*parsed, cancelled=lambda: next(answers))
    assert tiny.encode_words(*parsed).embeddings.shape == (2, 64)


def test_clip_and_cliptrase_differ_and_share_the_model(backbone):
    image = picture(48, 48)
    a, b = (segmenter(backbone, method=m).encode(image) for m in ('clip', 'cliptrase'))
    assert not torch.allclose(a.features, b.features, atol=1e-2)
    assert torch.allclose(a.affinity, b.affinity)


def test_many_words_need_16_bits(backbone):
    rng = np.random.default_rng(0)
    words = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(300)], rng.normal(size=(300, 16)))
    result = segmenter(backbone)(picture(48, 48), words)
    assert result.labels.dtype == np.uint16


def test_words_need_a_text_encoder(backbone):
    with pytest.raises(ct.VocabularyError, match='from_embeddings'):
        segmenter(backbone).vocabulary(['floor'])


@pytest.fixture(scope='module')
def tiny():
    return ct.load(ct.Settings(model='cliptrase-tiny', weights='random', device='cpu'))


def test_load_to_labels(tiny):
    words = tiny.vocabulary(['floor', '7:mug=mug;coffee cup', 'cat|dog'], background=['sky'])
    assert words.ids == {'floor': 1, 'mug': 7, 'cat': 2}
    assert words.embeddings.shape == (6, 64)
    assert words.owner.tolist() == [0, 1, 1, 2, 2, 3]
    result = tiny(picture(120, 160), words)
    assert set(np.unique(result.labels)) <= {0, 1, 2, 7}


def test_too_long_words_are_refused_before_anything_is_encoded(tiny):
    for entries, background in ((['floor', 'mug ' * 100], []), (['floor'], ['mug ' * 100])):
        with pytest.raises(ct.VocabularyError, match=r"'mug mug .* too long"):
            tiny.vocabulary(entries, background)


def test_word_embeddings_are_kept_on_disk(tiny, tmp_path):
    kept = tiny.replace(cache_dir=str(tmp_path / 'words'), prompt_templates='photo')
    first = kept.vocabulary(['floor', 'door'])
    assert len(list((tmp_path / 'words').iterdir())) == 2
    again = kept.vocabulary(['door', 'floor'])
    assert torch.equal(first.embeddings, again.embeddings.flip(0))


def test_two_threads_get_what_one_gets(backbone, words):
    from concurrent.futures import ThreadPoolExecutor

    run = segmenter(backbone)
    pictures = [picture(48 + 8 * n, 64, seed=n) for n in range(6)]
    alone = [run(image, words).labels for image in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: run(image, words).labels, pictures * 3))
    assert all((a == b).all() for a, b in zip(alone * 3, together, strict=True))


@pytest.mark.parametrize('refine', ['none', 'guided', 'pamr'])
@pytest.mark.parametrize('regions', ['vote', 'none'])
def test_everything_turned_gives_the_turned_labels(device, words, refine, regions):
    visual, turned = make_visual().to(device), make_turned_visual().to(device)
    image = picture(48, 80, seed=5)
    options = {'cluster.eps': 1.0, 'cluster.min_samples': 3}
    options |= {'refine': refine, 'regions': regions}
    a = segmenter(ct.Backbone(visual), **options)(image, words)
    b = segmenter(ct.Backbone(turned), **options)(image.transpose(1, 0, 2), words)
    assert len(np.unique(a.labels)) > 1
    assert (a.labels == b.labels.T).mean() > 0.99


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'regions': 'none'},
        {'sliding.window_px': 32, 'sliding.stride_px': 16},
        {'regions': 'none', 'refine': 'pamr'},
        {'refine': 'guided'},
    ],
)
def test_a_batch_is_each_image_on_its_own(backbone, words, changes):
    run = segmenter(backbone, **changes)
    images = [picture(96, 128), picture(64, 48), picture(96, 128)[::-1], picture(48, 64)]
    for image, encoded in zip(images, run.encode_batch(images), strict=True):
        alone = run.encode(image)
        assert encoded.size == alone.size and encoded.working_size == alone.working_size
        assert torch.allclose(encoded.features, alone.features, atol=1e-5)
        labels = run.label(encoded, words).labels
        assert (labels == run.label(alone, words).labels).mean() > 0.99


class Read:
    """Settings that note which of them are read."""

    def __init__(self, values, names, prefix=''):
        self._values, self._names, self._prefix = values, names, prefix

    def __getattr__(self, field):
        value, name = getattr(self._values, field), self._prefix + field.rstrip('_')
        if dataclasses.is_dataclass(value):
            return Read(value, self._names, f'{name}.')
        self._names.add(name)
        return value


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'regions': 'none', 'sliding.window_px': 32, 'refine': 'pamr'},
        {'protocol': 'cliptrase', 'method': 'gclip', 'present.method': 'tagclip'},
        {'method': 'resclip', 'resclip.feedback.enabled': True, 'refine': 'guided'},
    ],
)
def test_the_encoder_reads_only_settings_of_images(backbone, words, changes):
    run = segmenter(backbone, **changes)
    names = set()
    made = encoder.Encoder(backbone, Read(run.settings, names))
    [encoded] = made([picture(64, 48)])
    if made.feeds_back:
        made.fed_back(encoded, on_device(words, encoded.features.device))
    groups = {name.partition('.')[0] for name in scope_names(IMAGE) if '.' in name} - {'present'}
    properties = {'label_size', *(name for name in names if name.partition('.')[0] in groups)}
    assert names >= {'method', 'regions', 'input_size', 'precision'}
    assert names <= {*scope_names(IMAGE), *properties}


def test_what_changes_while_a_node_runs_shares_the_encoder(backbone, words):
    run = segmenter(backbone)
    assert run.replace(confidence_threshold=0.5, distractors='stuff').encoder is run.encoder
    assert segmenter(backbone).encoder is run.encoder
    assert run.replace(method='clip').encoder is not run.encoder
    for side in range(32, 32 + encoder.ENCODERS):
        run.replace(input_size=side)
    assert len(backbone.encoders) == encoder.ENCODERS
    assert segmenter(backbone).encoder is not run.encoder  # dropped from the cache; still works
    assert run(picture(48, 64), words).labels.shape == (48, 64)


def test_warming_up_encodes_the_size(backbone):
    run = segmenter(backbone)
    run.warm_up((64, 80))
    assert len(run.encode(picture(64, 80)).size) == 2
    with pytest.raises(ct.ShapeError):
        run.warm_up((10, 100))


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same(device, words, caplog):
    caplog.set_level(logging.INFO, 'cliptrase_ros')
    small = ct.Backbone(make_visual(layers=2).to(device))
    plain, image = segmenter(small), picture(60, 100)
    compiled = plain.replace(compile=True)
    got, expected = compiled.encode(image), plain.encode(image)
    assert torch.allclose(got.features, expected.features, atol=1e-4)
    assert torch.equal(got.clusters, expected.clusters)
    (verdict,) = [r.getMessage() for r in caplog.records if 'kept' in r.getMessage()]
    assert verdict.startswith('image tower for 1 x 3 x 48 x 80: ')
    other = compiled.replace(confidence_threshold=0.1)  # this compiles nothing new
    other.label(other.encode(image[:, ::-1]), words)
    assert sum('compiling' in r.getMessage() for r in caplog.records) == 1


def test_images_of_one_size_share_a_pass(backbone, monkeypatch):
    run, sizes = segmenter(backbone), []
    follow = recipes.follow
    monkeypatch.setattr(
        recipes,
        'follow',
        lambda tower, x, *a, **k: sizes.append(len(x)) or follow(tower, x, *a, **k),
    )
    run.encode_batch([picture(96, 128), picture(64, 48), picture(48, 64)])
    assert sorted(sizes) == [1, 2]
    with pytest.raises(ct.ShapeError):
        run.encode_batch([picture(48, 48), picture(1, 9)])


@pytest.mark.parametrize('size', [(20, 31), (200, 100)])
@pytest.mark.parametrize(
    'changes', [{}, {'regions': 'mean'}, {'sliding.window_px': 32, 'sliding.stride_px': 16}]
)
def test_labels_of_another_size(backbone, words, size, changes):
    run = segmenter(backbone, output_size=f'{size[1]}x{size[0]}', **changes)
    image = picture(64, 80)
    result = run(image, words)
    assert result.labels.shape == result.confidence.shape == size
    assert run.view(image).shape == (*size, 3)


def test_an_output_size_samples_the_same_scores(backbone, words):
    image = picture(64, 96)
    whole = segmenter(backbone, regions='none')(image, words).labels
    # At a third of the size, the pixel centres are those of every third pixel.
    third = segmenter(backbone, regions='none', output_size='32x22')(picture(66, 96), words)
    same = segmenter(backbone, regions='none')(picture(66, 96), words)
    assert (third.labels == same.labels[1::3, 1::3]).all()
    assert (
        segmenter(backbone, regions='none', output_size='96x64')(image, words).labels == whole
    ).all()


@pytest.mark.parametrize(
    'changes', [{'output_size': '37x20'}, {'protocol': 'cliptrase'}, {'output_size': 'input'}]
)
@pytest.mark.parametrize('size', [(60, 100), (100, 60)])
def test_view_geometry_says_where_pixels_are(backbone, changes, size):
    run = segmenter(backbone, **changes)
    # The pixels of this picture hold their own coordinates.
    rows, cols = np.indices(size)
    image = np.stack([cols, rows, rows], -1).astype(np.uint8)
    seen = run.view(image)
    labels_size, matrix = run.view_geometry(size)
    assert seen.shape[:2] == labels_size
    y, x = np.indices(labels_size)[:, 5:-5, 5:-5]
    at = image[..., 0][0, seen[y, x, 0]], image[..., 1][seen[y, x, 1], 0]
    moved = np.einsum('ij,jhw->ihw', matrix, np.stack([*at, np.ones_like(x)]))
    # Pixels hold whole coordinates, so the error is up to half an image pixel, in label pixels.
    assert abs(moved - np.stack([x, y])).max() <= 0.51 * max(matrix[0, 0], matrix[1, 1])


def test_scores_may_come_from_several_frames(backbone, words):
    run, smooth = segmenter(backbone, regions='none'), Smoother()
    one, two = (run.encode(image) for image in (picture(48, 64), picture(48, 64)[::-1].copy()))
    first, second = run.scores(one, words), run.scores(two, words)
    assert torch.equal(smooth(first, 0.75, 'a'), first)
    mean = smooth(second, 0.75, 'a')
    assert torch.allclose(mean, 0.75 * first + 0.25 * second, atol=1e-4)
    assert (run.label(two, words, first).labels == run.label(one, words).labels).all()
    # After a change of words or shape, without a weight, or after forget(), only the newest frame
    # counts.
    assert torch.equal(smooth(second, 0.75, 'b'), second)
    assert torch.equal(smooth(second[:, 1:], 0.75, 'b'), second[:, 1:])
    assert torch.equal(smooth(first[:, 1:], 0.0, 'b'), first[:, 1:])
    smooth.forget()
    assert torch.equal(smooth(second[:, 1:], 0.75, 'b'), second[:, 1:])


WINDOWS = {'sliding.window_px': 32, 'sliding.stride_px': 16}


@pytest.mark.parametrize('refine', ['guided', 'pamr'])
@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
@pytest.mark.parametrize(
    'changes', [{}, WINDOWS, {'output_size': '31x90'}, {'protocol': 'cliptrase', 'input_size': 64}]
)
def test_refined_labels_have_the_size_of_the_others(backbone, words, refine, regions, changes):
    options = {'cluster.eps': 1.0, 'cluster.min_samples': 3, 'regions': regions, **changes}
    run = segmenter(backbone, refine=refine, **options)
    image = picture(60, 100)
    result = run(image, words)
    plain = run.replace(refine='none')(image, words)
    assert result.labels.shape == result.confidence.shape == plain.labels.shape
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1
    assert 0 < (result.labels != plain.labels).mean() < 0.5


def refined_naively(run, name, scores, encoded):
    """Return the argmax of all scores, each refined and enlarged as a whole."""
    if name == 'pamr':
        seen = rule.enlarged(scores, encoded.working_size)
        full = rule.enlarged(rule.pamr(seen, encoded.image), encoded.size)
    else:
        grid = tuple(4 * side // TINY_PATCH for side in encoded.working_size)
        full = rule.guided_rows(scores, encoded.size, encoded.image, grid)(
            slice(0, encoded.size[0])
        )
    return full.argmax(0).cpu().numpy()


@pytest.mark.parametrize('refine', ['guided', 'pamr'])
@pytest.mark.parametrize('changes', [{}, WINDOWS, {'output_size': '31x90'}])
def test_few_words_are_refined_as_if_there_were_no_bound(backbone, words, refine, changes):
    run = segmenter(backbone, regions='none', refine=refine, refine_words=7, **changes)
    encoded = run.encode(picture(60, 100))
    best = refined_naively(run, refine, run.scores(encoded, words), encoded)
    ids = np.append(words.label_ids.cpu().numpy()[:5], [0, 0])
    assert (run.label(encoded, words).labels == ids[best]).all()


@pytest.mark.parametrize('refine', ['guided', 'pamr'])
def test_many_words_are_refined_where_it_matters(backbone, refine):
    rng = np.random.default_rng(1)
    words = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(200)], rng.normal(size=(200, 16)))
    run = segmenter(backbone, regions='none', refine=refine)
    image = picture(60, 100, seed=1)
    bounded, plain = run(image, words), run.replace(refine='none')(image, words)
    everything = run.replace(refine_words=200)(image, words)
    assert 12 < len(np.unique(plain.labels)) < 60
    assert (bounded.labels == everything.labels).mean() > (plain.labels == everything.labels).mean()


@pytest.mark.parametrize('refine', ['guided', 'pamr'])
def test_margins_are_those_of_the_labels_however_many_words_are_refined(backbone, refine):
    rng = np.random.default_rng(0)
    words = ct.Vocabulary.from_embeddings([f'w{n}' for n in range(40)], rng.normal(size=(40, 16)))
    run = segmenter(backbone, regions='none', refine=refine)
    image = picture(60, 100)
    lead = run.replace(margin_threshold=1e-7)(image, words).labels
    assert (lead == run(image, words).labels).mean() > 0.999


def test_a_model_that_nobody_holds_is_gone_at_once(words, device):
    backbone = ct.Backbone(make_visual().to(device))
    segmenter(backbone)(picture(60, 100), words)
    segmenter(backbone, method='gclip', regions='none')(picture(60, 100), words)
    alive = [weakref.ref(x) for x in (backbone, backbone.tower('fp32'))]
    gc.collect()
    gc.disable()
    try:
        del backbone
        assert [x() for x in alive] == [None, None]
    finally:
        gc.enable()


def test_without_refinement_no_picture_is_kept(backbone):
    assert segmenter(backbone).encode(picture(60, 100)).image is None
    guided = segmenter(backbone, refine='guided').encode(picture(60, 100)).image
    assert guided.shape == (3, 60, 100) and guided.dtype == torch.uint8
    assert (guided.permute(1, 2, 0).cpu().numpy() == picture(60, 100)).all()
    small = segmenter(backbone, refine='guided', output_size='50x30').encode(picture(60, 100)).image
    assert small.shape == (3, 30, 50)
    assert segmenter(backbone, refine='pamr').encode(picture(60, 100)).image.shape == (3, 48, 80)


@pytest.mark.parametrize('encoder, labeller', [('none', 'pamr'), ('pamr', 'guided')])
def test_an_image_is_encoded_for_its_refinement(backbone, words, encoder, labeller):
    run = segmenter(backbone, regions='none')
    encoded = run.replace(refine=encoder).encode(picture(60, 100))
    with pytest.raises(ct.SettingError, match=f"not encoded for '{labeller}'; encode it with"):
        run.replace(refine=labeller).label(encoded, words)


@pytest.mark.parametrize('refine', ['guided', 'pamr'])
def test_of_regions_the_maps_are_refined(backbone, words, refine):
    options = {'cluster.eps': 1.0, 'cluster.min_samples': 3}
    run = segmenter(backbone, refine=refine, **options)
    encoded, plain = (r.encode(picture(60, 100)) for r in (run, segmenter(backbone, **options)))
    maps = clusters.region_maps(
        encoded.affinity, encoded.clusters.flatten(), encoded.clusters.shape
    )
    assert len(maps) > 1 and not torch.equal(encoded.regions, plain.regions)
    assert (encoded.regions.cpu().numpy() == refined_naively(run, refine, maps, encoded)).all()
    labels = segmenter(backbone, **options).label(encoded, words).labels
    assert (run.label(encoded, words).labels == labels).all()


@pytest.mark.parametrize('refine, edge', [('none', 32), ('guided', 35), ('pamr', 35)])
def test_labels_end_where_the_colours_do(backbone, words, refine, edge):
    image = np.full((64, 96, 3), 90, np.uint8)
    image[:, 35:, 0] = 200
    run = segmenter(backbone, regions='none', refine=refine, input_size=64)
    encoded = run.encode(image)
    scores = torch.zeros(7, 8, 12, device=encoded.features.device)
    scores[1, :, :4] = scores[3, :, 4:] = 1
    labels = run.label(encoded, words, scores).labels
    assert (labels == np.where(np.arange(96) < edge, 2, 4)).all()


def test_labels_without_a_margin_become_unlabelled(backbone, words):
    # One label per patch, so that scores are not enlarged. The two distractors are one class.
    run = segmenter(backbone, regions='none', output_size='8x6')
    encoded = run.encode(picture(60, 80))
    cosines = run.scores(encoded, words) / 100
    of_class = torch.cat([cosines[:5], cosines[5:].amax(0, keepdim=True)])
    first, second = of_class.sort(0, descending=True).values[:2]
    lead = (first - second).cpu().numpy()
    threshold = float(np.median(lead)) + 1e-6
    result = run.label(encoded, words)
    cut = run.replace(margin_threshold=threshold).label(encoded, words)
    kept = lead >= threshold
    assert kept.any() and (result.labels[~kept] > 0).any()
    assert (cut.labels == np.where(kept, result.labels, 0)).all()
    assert (cut.confidence[~kept] == 0).all()
    assert (cut.confidence[cut.labels > 0] == result.confidence[cut.labels > 0]).all()


@pytest.mark.parametrize('regions', ['vote', 'mean'])
def test_a_region_is_unlabelled_as_a_whole(backbone, words, regions):
    options = {'cluster.eps': 1.0, 'cluster.min_samples': 3, 'regions': regions}
    run = segmenter(backbone, **options)
    encoded = run.encode(picture(64, 80, seed=1))
    plain = run.label(encoded, words).labels
    thresholds = 0.05, 0.09, 0.11, 0.13, 2.0
    cuts = [run.replace(margin_threshold=t).label(encoded, words).labels for t in thresholds]
    assert (cuts[-1] == 0).all()
    lost = [(cut != plain).sum() for cut in cuts]
    assert lost == sorted(lost) and len(set(lost)) > 2
    numbers = encoded.regions.cpu().numpy()
    for cut in cuts:
        assert (cut[cut > 0] == plain[cut > 0]).all()
        for number in np.unique(numbers):
            assert len(np.unique(cut[numbers == number])) == 1


def test_no_margin_asked_for_is_none_computed(backbone, words, monkeypatch):
    def refuse(*arguments):
        raise AssertionError

    monkeypatch.setattr(voting, 'margins', refuse)
    run = segmenter(backbone)
    run(picture(64, 80), words)
    with pytest.raises(AssertionError):
        run.replace(margin_threshold=0.1)(picture(64, 80), words)


@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
def test_scores_that_are_no_numbers_are_unlabelled(backbone, words, regions):
    run = segmenter(backbone, regions=regions)
    encoded = run.encode(picture(64, 80))
    result = run.label(encoded, words, torch.full_like(run.scores(encoded, words), torch.nan))
    assert not result.labels.any() and not result.confidence.any()


@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
def test_words_that_are_being_learned_label_as_well(backbone, regions):
    """Embeddings with gradients work; no gradient flows back through labels."""
    run = segmenter(backbone, regions=regions, margin_threshold=0.01, confidence_threshold=0.01)
    rows = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    learned = ct.Vocabulary.from_embeddings(list('abcd'), torch.nn.Parameter(rows))
    fixed = ct.Vocabulary.from_embeddings(list('abcd'), rows)
    image = picture(48, 64)
    assert (run(image, learned).labels == run(image, fixed).labels).all()
