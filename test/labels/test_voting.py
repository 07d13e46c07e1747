from functools import partial

import numpy as np
import oracle
import pytest
import torch

from cliptrase_ros.labels import voting
from cliptrase_ros.labels.resample import bands

# Two prompts for class 1, and two background words.
OWNER = torch.tensor([0, 1, 1, 2, 3, 3])


def queries(device, owner=OWNER, classes=3):
    return voting.Queries.of(owner.tolist(), classes, device)


def logits(device, seed=0, grid=(3, 5)):
    values = torch.randn(6, *grid, generator=torch.Generator().manual_seed(seed))
    return (5 * values).to(device)


def enlarged(scores, size):
    return np.array([oracle.bilinear(m.double().cpu().numpy(), size) for m in scores])


def naive_probability(full, label):
    """Return, for each pixel, the largest softmax among the queries of its label."""
    result = np.zeros(label.shape)
    for y, x in np.ndindex(label.shape):
        p = oracle.softmax(full[:, y, x])
        result[y, x] = max(p[q] for q in range(6) if OWNER[q] == label[y, x])
    return result


def test_each_class_has_its_prompts(device):
    got = queries(device)
    assert got.owner.tolist() == OWNER.tolist() and got.classes == 3
    assert got.prompts.tolist() == [[0, 0], [1, 2], [3, 3]]
    assert got.owner.device.type == got.prompts.device.type == device.type


@pytest.mark.parametrize('scale', [1, 1000])
@pytest.mark.parametrize('size', [(9, 20), (20, 9), (3, 5)])
@pytest.mark.parametrize('elements', [1, 200, None])
def test_pixels_take_the_class_of_their_best_query(device, size, scale, elements):
    scores = scale * logits(device)
    in_bands = partial(bands, elements=elements)
    labels, confidence = voting.label_pixels(scores, size, queries(device), in_bands)
    full = enlarged(scores, size)
    expected = OWNER.numpy()[full.argmax(0)]
    assert (labels.cpu().numpy() == expected).all()
    assert np.abs(confidence.cpu().numpy() - naive_probability(full, expected)).max() < 1e-5


@pytest.mark.parametrize('scale', [1, 1000])
def test_regions_vote_and_each_pixel_keeps_its_own_confidence(device, scale):
    size = (12, 20)
    regions = np.random.default_rng(0).integers(-1, 4, size)
    scores = scale * logits(device, 1)
    labels, confidence = voting.label_votes(
        scores, torch.from_numpy(regions).to(device), queries(device)
    )
    full = enlarged(scores, size)
    own = OWNER.numpy()[full.argmax(0)]
    expected = np.where(regions < 0, own, oracle.vote(own, regions))
    assert (labels.cpu().numpy() == expected).all()
    known = (expected < 3) | (expected == own)
    assert (expected != own)[known].any() and (~known | (own == 3)).any()
    error = np.abs(confidence.cpu().numpy() - naive_probability(full, expected))
    assert error[known].max() < 1e-5


def test_where_all_are_in_no_region_pixels_are_on_their_own(device):
    scores, alone = logits(device, 1), torch.full((12, 20), -1, device=device)
    expected = voting.label_pixels(scores, (12, 20), queries(device))
    for rule in (voting.label_votes, voting.label_regions):
        for got, own in zip(rule(scores, alone, queries(device)), expected, strict=True):
            assert torch.equal(got, own)


def test_regions_share_the_mean_of_their_scores(device):
    size = (12, 20)
    regions = np.random.default_rng(1).integers(-1, 3, size)
    regions[regions == 1] = 2  # leaves region 1 empty, which must be harmless
    scores = logits(device, 2)
    labels, confidence = voting.label_regions(
        scores, torch.from_numpy(regions).to(device), queries(device)
    )
    full = enlarged(scores, size)
    for number in (0, 2):
        mean = full[:, regions == number].mean(1)
        p = oracle.softmax(mean)
        assert set(labels.cpu().numpy()[regions == number]) == {int(OWNER[mean.argmax()])}
        best = max(p[OWNER.numpy() == int(OWNER[mean.argmax()])])
        assert np.allclose(confidence.cpu().numpy()[regions == number], best, atol=1e-5)
    alone = OWNER.numpy()[full.argmax(0)][regions < 0]
    assert (labels.cpu().numpy()[regions < 0] == alone).all()


@pytest.mark.parametrize('size', [(12, 20), (2, 3), (31, 7)])
def test_the_mean_of_a_region_is_that_of_its_pixels(device, size):
    regions = np.random.default_rng(2).integers(-1, 4, size)
    regions[regions == 1] = 3
    scores = logits(device, 2)
    means = voting.region_means(scores, torch.from_numpy(regions).to(device)).cpu().numpy()
    full = enlarged(scores, size)
    for number in range(regions.max() + 1):
        inside = full[:, regions == number]
        expected = inside.mean(1) if inside.size else np.zeros(6)
        assert np.abs(means[:, number] - expected).max() < 1e-5


def test_ties_go_to_the_lowest_label(device):
    labels = torch.tensor([[2, 1, 1, 2], [0, 0, 3, 3]], device=device)
    regions = torch.tensor([[0, 0, 0, 0], [2, 2, 2, 2]], device=device)
    assert voting.majority(labels, regions, 4).tolist()[:3] == [1, 0, 0]
    regions[0, :2] = -1
    assert voting.majority(labels, regions, 4)[0] == 1


@pytest.mark.parametrize('count', [3, 300])
def test_of_equal_queries_the_first_wins(device, count):
    scores = logits(device)[:1].repeat(count, 1, 1)
    asked = queries(device, torch.arange(count).flip(0), count)
    labels, confidence = voting.label_pixels(scores, (9, 20), asked)
    assert (labels == count - 1).all()
    assert torch.allclose(confidence, torch.tensor(1 / count, device=device))


def test_what_is_no_number_is_nothing(device):
    scores = logits(device)
    scores[2, 0, 0] = torch.nan
    labels, _ = voting.label_pixels(scores, (3, 5), queries(device))
    assert labels[0, 0] == 3


def test_probabilities_of_single_prompt_classes_sum_to_one(device):
    scores, owner = logits(device)[:4], torch.arange(4, device=device)
    each = [
        voting.probability(scores, owner, torch.full((3, 5), k, device=device)) for k in range(4)
    ]
    assert torch.allclose(sum(each), torch.ones(3, 5, device=device), atol=1e-6)


def test_huge_logits_stay_finite(device):
    for scale in (1e4, 1e30):
        scores = scale * logits(device)
        _, confidence = voting.label_pixels(scores, (6, 10), queries(device))
        assert torch.isfinite(confidence).all() and confidence.min() > 0.3
        assert confidence.max() <= 1


def test_cosines(device):
    features = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0)).to(device)
    words = torch.nn.functional.normalize(torch.randn(5, 8), dim=1).to(device)
    got = voting.cosines(features, words)
    expected = torch.nn.functional.cosine_similarity(features[1, 2, 3], words[4], dim=0)
    assert got.shape == (2, 3, 4, 5)
    assert torch.allclose(got[1, 2, 3, 4], expected, atol=1e-6)


def naive_lead(scores, label):
    """Return the best of scores [Q] of a label's queries minus the best of the others."""
    mine = OWNER.numpy() == label
    return scores[mine].max() - scores[~mine].max()


def test_the_margin_is_the_lead_on_the_best_other_class(device):
    size, scores = (9, 20), logits(device, 3)
    labels = torch.arange(180, device=device).view(size) % 4
    got = voting.margins(bands(scores, size, 200), OWNER.to(device), labels).cpu().numpy()
    full = enlarged(scores, size)
    expected = [
        [naive_lead(full[:, y, x], labels[y, x].item()) for x in range(20)] for y in range(9)
    ]
    assert np.abs(got - expected).max() < 1e-4
    best = OWNER.to(device)[torch.from_numpy(full.argmax(0)).to(device)]
    assert float(voting.margins(bands(scores, size), OWNER.to(device), best).min()) >= 0


def test_a_region_stands_or_falls_as_one(device):
    size, scores = (12, 20), logits(device, 4)
    regions = np.random.default_rng(2).integers(0, 4, size)
    regions[regions == 2] = 3  # leaves region 2 empty, which must be harmless
    labels = torch.from_numpy(np.array([3, 0, 0, 2])[regions]).to(device)
    on_device = torch.from_numpy(regions).to(device)
    got = voting.region_margins(scores, on_device, OWNER.to(device), labels).cpu().numpy()
    full = enlarged(scores, size)
    for number, label in ((0, 3), (1, 0), (3, 2)):
        mean = full[:, regions == number].mean(1)
        assert np.allclose(got[regions == number], naive_lead(mean, label), atol=1e-4)
    on_device[regions == 1] = -1
    got = voting.region_margins(scores, on_device, OWNER.to(device), labels)[on_device < 0]
    own = voting.margins(bands(scores, size), OWNER.to(device), labels)[on_device < 0]
    assert torch.equal(got, own)


def test_a_class_without_rivals_leads_by_any_margin(device):
    owner = torch.zeros(6, dtype=torch.long, device=device)
    labels = torch.zeros(6, 10, dtype=torch.long, device=device)
    scores = logits(device)
    assert torch.isposinf(voting.margins(bands(scores, (6, 10)), owner, labels)).all()
    assert torch.isposinf(voting.region_margins(scores, labels, owner, labels)).all()
