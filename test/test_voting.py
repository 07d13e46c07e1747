import numpy as np
import oracle
import pytest
import torch

from cliptrase_ros import voting
from cliptrase_ros.resample import bands

OWNER = torch.tensor([0, 1, 1, 2, 3, 3])


def logits(device, seed=0, grid=(3, 5)):
    values = torch.randn(6, *grid, generator=torch.Generator().manual_seed(seed))
    return (5 * values).to(device)


def enlarged(scores, size):
    return np.array([oracle.bilinear(m.double().cpu().numpy(), size) for m in scores])


def naive_probability(full, label):
    """Softmax over queries, largest among the queries of the label, pixel by pixel."""
    result = np.zeros(label.shape)
    for y, x in np.ndindex(label.shape):
        p = oracle.softmax(full[:, y, x])
        result[y, x] = max(p[q] for q in range(6) if OWNER[q] == label[y, x])
    return result


@pytest.mark.parametrize('size', [(9, 20), (20, 9), (3, 5)])
def test_pixels_take_the_class_of_their_best_query(device, size):
    scores = logits(device)
    labels, confidence = voting.label_pixels(bands(scores, size), OWNER.to(device))
    full = enlarged(scores, size)
    expected = OWNER.numpy()[full.argmax(0)]
    assert (labels.cpu().numpy() == expected).all()
    assert np.abs(confidence.cpu().numpy() - naive_probability(full, expected)).max() < 1e-4


def test_regions_vote_and_each_pixel_keeps_its_own_confidence(device):
    size = (12, 20)
    regions = np.random.default_rng(0).integers(0, 4, size)
    scores = logits(device, 1)
    labels, confidence = voting.label_pixels(
        bands(scores, size), OWNER.to(device), torch.from_numpy(regions).to(device)
    )
    full = enlarged(scores, size)
    expected = oracle.vote(OWNER.numpy()[full.argmax(0)], regions)
    assert (labels.cpu().numpy() == expected).all()
    assert np.abs(confidence.cpu().numpy() - naive_probability(full, expected)).max() < 1e-4


def test_regions_share_the_mean_of_their_scores(device):
    size = (12, 20)
    regions = np.random.default_rng(1).integers(0, 3, size)
    regions[regions == 1] = 2  # an empty region harms nobody
    scores = logits(device, 2)
    labels, confidence = voting.label_regions(
        bands(scores, size), OWNER.to(device), torch.from_numpy(regions).to(device)
    )
    full = enlarged(scores, size)
    for number in (0, 2):
        mean = full[:, regions == number].mean(1)
        p = oracle.softmax(mean)
        assert set(labels.cpu().numpy()[regions == number]) == {int(OWNER[mean.argmax()])}
        best = max(p[OWNER.numpy() == int(OWNER[mean.argmax()])])
        assert np.allclose(confidence.cpu().numpy()[regions == number], best, atol=1e-4)


def test_ties_go_to_the_lowest_label(device):
    labels = torch.tensor([[2, 1, 1, 2], [0, 0, 3, 3]], device=device)
    regions = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]], device=device)
    assert voting.majority(labels, regions, 4).tolist() == [[1] * 4, [0] * 4]


def test_probabilities_of_single_prompt_classes_sum_to_one(device):
    scores, owner = logits(device)[:4], torch.arange(4, device=device)
    each = [
        voting.probability(scores, owner, torch.full((3, 5), k, device=device)) for k in range(4)
    ]
    assert torch.allclose(sum(each), torch.ones(3, 5, device=device), atol=1e-6)


def test_huge_logits_stay_finite(device):
    scores = 1e4 * logits(device)
    _, confidence = voting.label_pixels(bands(scores, (6, 10)), OWNER.to(device))
    assert torch.isfinite(confidence).all() and float(confidence.max()) <= 1.0


def test_cosines(device):
    features = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0)).to(device)
    words = torch.nn.functional.normalize(torch.randn(5, 8), dim=1).to(device)
    got = voting.cosines(features, words)
    expected = torch.nn.functional.cosine_similarity(features[1, 2, 3], words[4], dim=0)
    assert got.shape == (2, 3, 4, 5)
    assert torch.allclose(got[1, 2, 3, 4], expected, atol=1e-6)


def naive_lead(scores, label):
    """The best of a label's queries less the best of the others': scores [Q]."""
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
    regions[regions == 2] = 3  # an empty region harms nobody
    labels = torch.from_numpy(np.array([3, 0, 0, 2])[regions]).to(device)
    on_device = torch.from_numpy(regions).to(device)
    got = voting.margins(bands(scores, size), OWNER.to(device), labels, on_device).cpu().numpy()
    full = enlarged(scores, size)
    for number, label in ((0, 3), (1, 0), (3, 2)):
        mean = full[:, regions == number].mean(1)
        assert np.allclose(got[regions == number], naive_lead(mean, label), atol=1e-4)


def test_a_class_without_rivals_leads_by_any_margin(device):
    owner = torch.zeros(6, dtype=torch.long, device=device)
    labels = torch.zeros(6, 10, dtype=torch.long, device=device)
    scores = bands(logits(device), (6, 10))
    assert torch.isposinf(voting.margins(scores, owner, labels)).all()
    assert torch.isposinf(voting.margins(scores, owner, labels, labels)).all()
