import math

import numpy as np
import oracle
import pytest
import torch

from cliptrase_ros.model import attention


def heads(device, tokens=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, tokens, 5, generator=generator).to(device)
    return attention.Heads(q, k, v)


GRID = (2, 3)
TOTALS = {
    attention.clip: 1,
    attention.query_query: 1,
    attention.key_key: 1,
    attention.naclip: 1,
    attention.cliptrase_paper: 1,
    attention.sclip: 2,
    attention.cliptrase: 3,
}


@pytest.mark.parametrize('rule', TOTALS)
def test_rows_sum_to_the_number_of_softmaxes(device, rule):
    weights, total = attention.weights(rule(heads(device), GRID)), TOTALS[rule]
    assert weights.shape == (2, 3, 7, 7)
    assert torch.allclose(weights.sum(-1), torch.tensor(float(total), device=device))


def test_rules_follow_their_equations(device):
    h = heads(device)
    q, k, v = (x[1, 2].double().cpu().numpy() for x in h)

    def rows(a, b):
        return np.array([oracle.softmax(b @ a[i] / np.sqrt(5)) for i in range(7)])

    def error(rule, expected):
        return np.abs(attention.weights(rule(h, GRID))[1, 2].cpu().numpy() - expected).max()

    assert error(attention.clip, rows(q, k)) < 1e-6
    assert error(attention.sclip, rows(q, q) + rows(k, k)) < 1e-6
    assert error(attention.cliptrase, rows(q, q) + rows(k, k) + rows(v, v)) < 1e-6
    mean = (q @ q.T + k @ k.T + v @ v.T) / 3 / np.sqrt(5)
    assert error(attention.cliptrase_paper, np.array([oracle.softmax(m) for m in mean])) < 1e-6


@pytest.mark.parametrize('rule', TOTALS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_fused_attention_is_weights_times_values(device, rule, dtype, monkeypatch):
    # Pieces of two of the six heads; then pieces of one head, because the limit is even smaller.
    for elements in (2 * 7 * 7, 1):
        monkeypatch.setattr(attention, '_PIECE_ELEMENTS', elements)
        h = attention.Heads(*(x.to(dtype) for x in heads(device)))
        terms = rule(h, GRID)
        got, expected = attention.attend(terms, h.v), attention.weights(terms) @ h.v
        assert got.dtype == dtype and got.shape == h.v.shape
        limit = {torch.float32: 1e-6, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
        assert float((got - expected).abs().max()) < limit


def test_correlation_is_the_mean_cosine(device):
    h = heads(device)
    got = attention.semantic_correlation(h).cpu()
    assert got.shape == (2, 7, 7)
    assert torch.allclose(got.diagonal(dim1=1, dim2=2), torch.ones(2, 7), atol=1e-6)
    assert torch.allclose(got, got.transpose(1, 2), atol=1e-6)
    cosines = [
        torch.nn.functional.cosine_similarity(x[0, n, 2], x[0, n, 5], dim=0)
        for x in h
        for n in range(3)
    ]
    assert float(got[0, 2, 5]) == pytest.approx(float(sum(cosines)) / 9, abs=1e-6)


def test_permuting_tokens_permutes_the_weights(device):
    h = heads(device)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1)).to(device)
    permuted = attention.Heads(*(x[:, :, order] for x in h))
    for rule in set(TOTALS) - {attention.naclip}:
        expected = attention.weights(rule(h, GRID))[:, :, order][..., order]
        assert torch.allclose(attention.weights(rule(permuted, GRID)), expected, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype_and_correlation_is_float32(device, dtype):
    h = attention.Heads(*(x.to(dtype) for x in heads(device)))
    assert all(attention.weights(rule(h, GRID)).dtype == dtype for rule in TOTALS)
    assert attention.semantic_correlation(h).dtype == torch.float32


def test_no_preference_of_neighbours_is_key_key(device):
    h = heads(device)
    plain = attention.weights(attention.key_key(h, GRID))
    assert torch.equal(attention.weights(attention.naclip(h, GRID, math.inf)), plain)
    assert not torch.allclose(attention.weights(attention.naclip(h, GRID)), plain, atol=1e-3)


def test_neighbourhood_falls_with_distance_and_leaves_cls_alone(device):
    assert not attention.neighbourhood((3, 4), math.inf).any()
    near = attention.neighbourhood((3, 4), 2.0, device).cpu()
    assert near[0].sum() == near[:, 0].sum() == 0
    patches = near[1:, 1:]
    # Patch 0 is at row 0, column 0; patch 1 is right of it, patch 4 below, patch 5 diagonal.
    assert patches[0, 0] == 1
    assert patches[0, 1] == patches[0, 4] == pytest.approx(math.exp(-1 / 8))
    assert patches[0, 5] == pytest.approx(math.exp(-2 / 8))
    assert torch.equal(patches, patches.T)
