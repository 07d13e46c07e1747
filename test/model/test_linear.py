import pytest
import torch
from torch import nn

from cliptrase_ros.model import linear
from cliptrase_ros.model.linear import Linear
from cliptrase_ros.runtime import torch_compat

EXACT = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def layer(device, bias=True):
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias, device=device).requires_grad_(False)


@pytest.mark.parametrize('dtype', EXACT)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(3, 24), (1, 7, 24), (2, 5, 24)])
@torch.no_grad()
def test_layers_compute_what_torch_does(device, dtype, bias, shape):
    plain, x = layer(device, bias), torch.randn(*shape, device=device)
    got = Linear(plain.weight, plain.bias, dtype)(x)
    assert got.dtype == dtype and got.shape == (*shape[:-1], 40)
    assert torch.allclose(got.float(), plain(x), atol=4 * EXACT[dtype], rtol=EXACT[dtype])


@pytest.mark.parametrize('dtype', EXACT)
@torch.no_grad()
def test_factors_and_silu(device, dtype):
    plain, x = layer(device), torch.randn(1, 7, 24, device=device)
    got = Linear(plain.weight, 1.7 * plain.bias, dtype, factor=1.7, silu=True)(x)
    expected = torch.nn.functional.silu(1.7 * plain(x))
    assert torch.allclose(got.float(), expected, atol=4 * EXACT[dtype], rtol=EXACT[dtype])


@pytest.mark.skipif(not linear.packable(torch.device('cpu'), torch.bfloat16), reason='not x86')
@torch.no_grad()
def test_weights_laid_out_once_give_what_plain_ones_give(monkeypatch):
    plain, x = layer('cpu'), torch.randn(2, 9, 24)
    for silu in (False, True):
        results = []
        for possible in (True, False):
            monkeypatch.setattr(linear, 'packable', lambda device, dtype, yes=possible: yes)
            run = Linear(plain.weight, plain.bias, torch.bfloat16, factor=0.6, silu=silu)
            results.append(run(x).float())
        assert torch.allclose(*results, atol=4 * EXACT[torch.bfloat16])


def test_gradients_reach_the_weights():
    plain = nn.Linear(24, 40)
    made = Linear(plain.weight, plain.bias, torch.bfloat16)
    x = torch.ones(5, 24)
    with torch.no_grad():
        made(x)
    made(x).sum().backward()
    assert plain.bias.grad.tolist() == 40 * [5.0]
    assert torch.equal(plain.weight.grad, torch.full((40, 24), 5.0))


def test_where_weights_are_laid_out(monkeypatch):
    cpu, cuda, bf16 = torch.device('cpu'), torch.device('cuda'), torch.bfloat16
    monkeypatch.setattr(linear.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    assert linear.packable(cpu, bf16) == torch_compat.lays_out_bfloat16()
    assert not linear.packable(cuda, bf16) and not linear.packable(cpu, torch.float32)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert not linear.packable(cpu, bf16)
    monkeypatch.setattr(linear.platform, 'machine', lambda: 'aarch64')
    assert not linear.packable(cpu, bf16)


@pytest.mark.parametrize('has', [True, False])
def test_bfloat16_is_fast_where_the_cpu_has_instructions_for_it(monkeypatch, has):
    monkeypatch.setattr(torch_compat, 'has_bfloat16_instructions', lambda: has)
    assert linear.fast_bfloat16(torch.device('cpu')) == has
    assert not linear.fast_bfloat16(torch.device('cuda'))
