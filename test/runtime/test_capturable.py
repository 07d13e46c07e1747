"""Between an image on the device and its labels, the host never waits for the device."""

from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from capturable import OneDevice, capture
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from towers import make_visual, picture

import cliptrase_ros as ct
from cliptrase_ros.encoder import Encoder
from cliptrase_ros.labels import clusters, components, refine, rules, voting
from cliptrase_ros.labels.median import median_filter
from cliptrase_ros.labels.queries import DeviceWords
from cliptrase_ros.methods import presence, resclip
from cliptrase_ros.model import attention, windows
from cliptrase_ros.model.visual import Tower

GRID, SIZE = (3, 5), (31, 44)
QUERIES = voting.Queries.of([0, 1, 1, 2, 3, 3], 3)
MAPS = torch.randn(6, *GRID)
REGIONS = torch.randint(-1, 4, SIZE)
LABELS = torch.randint(4, SIZE)
AFFINITY = torch.rand(15, 15)


@pytest.mark.parametrize(
    'work',
    [
        lambda x: x.max().item(),
        lambda x: bool((x > 0).all()),
        lambda x: int(x.max()),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.bincount(x.long().flatten()),
        lambda x: x[0].repeat_interleave(x[0].long()),
    ],
)
def test_what_makes_the_host_wait_is_found(work):
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        capture(work, MAPS[0])


@pytest.mark.parametrize(
    'work',
    [
        lambda x: x.cpu(),
        lambda x: x.to('cpu', non_blocking=True),
        lambda x: torch.arange(3).to(x.device),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: x + torch.ones(5),
        lambda x: torch.zeros_like(x).copy_(torch.zeros(3, 5)),
    ],
)
def test_what_moves_between_host_and_device_is_found(work):
    with pytest.raises((AssertionError, RuntimeError)):
        capture(work, MAPS[0])


def test_what_stays_on_the_device_is_let_through():
    result = capture(lambda x: torch.where(x > 0, x.cumsum(0), 0.0).sort(1).values, MAPS[0])
    assert result.shape == GRID and result.device.type == 'cuda'


def along_edges(image):
    """Return the function that enlarges maps along the edges of a picture, as in the pipeline."""
    guided = partial(refine.guided_rows, image=image, grid=(12, 20))
    return partial(refine.along, rule=guided, most=4)


@pytest.mark.parametrize(
    'function, arguments, expected',
    [
        (clusters.dbscan, (AFFINITY, 0.5, 3), (15,)),
        (
            lambda *a: clusters.region_maps(*a, GRID),
            (AFFINITY, torch.zeros(15, dtype=torch.long)),
            (clusters.MOST_REGIONS, 12, 20),
        ),
        (median_filter, (torch.rand(3, 12, 20), 7), (3, 12, 20)),
        (clusters.regions, (torch.rand(9, 12, 20), SIZE), SIZE),
        (
            lambda maps, image: clusters.regions(maps, SIZE, along_edges(image)),
            (torch.rand(9, 12, 20), torch.zeros(3, *SIZE, dtype=torch.uint8)),
            SIZE,
        ),
        (voting.label_pixels, (MAPS, SIZE, QUERIES), SIZE),
        (voting.label_votes, (MAPS, REGIONS, QUERIES), SIZE),
        (voting.label_regions, (MAPS, REGIONS, QUERIES), SIZE),
        (voting.region_means, (MAPS, REGIONS), (6, clusters.MOST_REGIONS)),
        (voting.region_margins, (MAPS, REGIONS, QUERIES.owner, LABELS), SIZE),
        (voting.cosines, (torch.randn(*GRID, 8), torch.randn(6, 8)), (*GRID, 6)),
        (presence.denoise, (MAPS, QUERIES.owner, 3), (3,)),
        (presence.tagclip, (MAPS[:3], AFFINITY), (3,)),
        (presence.boxes, (MAPS > 0,), (6, *GRID)),
        (rules.only, (torch.tensor([True, False, True]), MAPS, QUERIES.owner), (6, *GRID)),
        (
            lambda tiles: windows.merge(tiles, [(0, 0), (0, 8)], 16, (16, 24)),
            (torch.randn(2, 6, 2, 2),),
            (6, 16, 24),
        ),
        (
            lambda x: components.components(lambda n: torch.maximum(x, n).amin(1), x[0] > 0, 15),
            (AFFINITY,),
            (15,),
        ),
    ],
)
def test_each_step_stays_on_the_device(function, arguments, expected):
    result = capture(function, *arguments)
    result = result[0] if isinstance(result, tuple) else result
    assert result.shape == expected and result.device.type == 'cuda'


@cache
def loaded():
    return ct.load(ct.Settings(model='cliptrase-tiny', weights='random', device='cpu'))


def segmenter(**changes):
    return loaded().replace(**changes)


@pytest.mark.parametrize('refined', ['none', 'guided', 'pamr'])
@pytest.mark.parametrize('regions', ['vote', 'mean', 'none'])
@pytest.mark.parametrize('limits', [{}, {'confidence_threshold': 0.1, 'margin_threshold': 0.1}])
def test_labels_stay_on_the_device(refined, regions, limits):
    run = segmenter(refine=refined, regions=regions, refine_words=4, **limits)
    encoded = run.encode(picture(48, 64))

    def label(features, members, image, queries, ids, logits, present):
        on_device = replace(encoded, features=features, regions=members, image=image)
        words = DeviceWords(None, queries, ids)
        return run._labelling(on_device, words)(logits, present)

    grid = encoded.features.shape[:2]
    ids = torch.tensor([1, 2, 3, 0], dtype=torch.uint8)
    for present in (None, torch.ones(3, dtype=torch.bool)):
        labels, confidence = capture(
            label,
            encoded.features,
            encoded.regions,
            encoded.image,
            QUERIES,
            ids,
            torch.randn(6, *grid),
            present,
        )
        assert labels.shape == confidence.shape == (48, 64)
        assert labels.dtype == torch.uint8 and confidence.dtype == torch.float32


@pytest.mark.parametrize('refined', ['none', 'guided', 'pamr'])
def test_regions_stay_on_the_device(refined):
    encoder = segmenter(refine=refined).encoder
    encoded = encoder([picture(48, 64)])[0]

    def regions(affinity, image):
        finder = encoder.region_finder
        found = finder.clusters(affinity, tuple(encoded.clusters.shape))
        return finder.regions(affinity, found, encoded.size, image)

    result = capture(regions, encoded.affinity, encoded.image)
    assert result.shape == (48, 64) and result.dtype == torch.int64


@pytest.fixture
def no_tables():
    """Clear the caches of tables: tables of fake tensors must not reach other tests."""
    caches = attention.neighbourhood, resclip._steps, resclip._blur
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(
    'changes',
    [
        *({'method': name} for name in ct.METHODS),
        {'refine': 'guided', 'regions': 'mean'},
        {'refine': 'pamr', 'present.method': 'tagclip'},
        {'sliding.window_px': 32, 'sliding.stride_px': 16},
        {'method': 'resclip', 'resclip.feedback.enabled': True},
    ],
)
def test_encoding_stays_on_the_device(changes, no_tables):
    """All steps from bytes on the device to the results that do not depend on the words."""
    # Weights that are read while loading are not part of a frame.
    changes = {'gclip.block': 1, 'gclip.suppression': False, 'input_size': 48, **changes}
    settings = ct.Settings.from_mapping({'precision': 'fp16', **changes})
    with FakeTensorMode(), torch.device('cuda'), torch.no_grad():
        tower = Tower(make_visual(), torch.float16)
        statistic = torch.ones(3, 1, 1)
        backbone = SimpleNamespace(
            tower=lambda precision, offset: tower,
            device=statistic.device,
            mean=statistic,
            std=statistic,
        )
        encoder = Encoder(backbone, settings)
        image = torch.zeros(60, 100, 3, dtype=torch.uint8)
        with OneDevice():
            for fields in (encoder._encode(image), encoder._encode(image)):
                features = fields[0]['features']
                assert features.device.type == 'cuda' and features.dtype == torch.float32
