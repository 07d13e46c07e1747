"""Private names of torch: the installed torch has them, and the package works without them.

The tests remove names to imitate other versions of torch, which are too large to be installed too.
"""

import argparse
import ast
import re
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace

import pytest
import torch

from cliptrase_ros.model.linear import Linear
from cliptrase_ros.runtime import accelerate, torch_compat

MKLDNN = '_reorder_linear_weight', '_linear_pointwise', '_is_mkldnn_bf16_supported'
CAN_LAY_OUT = pytest.mark.skipif(
    not torch_compat.lays_out_bfloat16(), reason='this CPU does not multiply bfloat16'
)


# Private attributes of modules and storages.
INSIDE = '_buffers', '_modules', '_cdata'


def private(name):
    return bool(re.search(r'(^|\.)_[^_]', name))


def test_no_other_module_uses_a_private_name_of_torch():
    folder = Path(torch_compat.__file__).parents[1]
    for file in folder.rglob('*.py'):
        for part in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(part, ast.Attribute):
                names = [ast.unparse(part)]
                assert part.attr not in INSIDE, (file.name, part.attr)
            elif isinstance(part, ast.Import):
                names = [alias.name for alias in part.names]
            elif isinstance(part, ast.ImportFrom) and not part.level:
                names = [f'{part.module}.{alias.name}' for alias in part.names]
            found = [name for name in names if name.startswith('torch.') and private(name)]
            assert not found or file.name == 'torch_compat.py', (file.name, found)


@pytest.mark.parametrize('name', ['safe_globals', 'get_unsafe_globals_in_checkpoint'])
def test_torch_before_2_6_refuses_harmless_classes(name, monkeypatch, tmp_path):
    """torch 2.5 knows no second name for a class, and 2.4 has no context for it."""
    torch.save({'args': argparse.Namespace()}, tmp_path / 'a.pt')
    with torch_compat.harmless_classes_allowed():
        torch.load(tmp_path / 'a.pt', weights_only=True)
    monkeypatch.delattr(torch.serialization, name)
    with torch_compat.harmless_classes_allowed(), pytest.raises(UnpicklingError):
        torch.load(tmp_path / 'a.pt', weights_only=True)


def without(monkeypatch, name):
    """Remove one name from torch.ops.mkldnn."""
    rest = {n: getattr(torch.ops.mkldnn, n) for n in MKLDNN if n != name}
    monkeypatch.setattr(torch.ops, 'mkldnn', SimpleNamespace(**rest))


def counted(monkeypatch):
    """Return a list that grows with each call of oneDNN's kernel."""
    calls, run = [], torch_compat.linear
    monkeypatch.setattr(torch_compat, 'linear', lambda *a: (calls.append(1), run(*a))[1])
    return calls


def bfloat16_layer():
    weight, bias = torch.randn(40, 24), torch.randn(40)
    return Linear(weight, bias, torch.bfloat16, silu=True), torch.randn(7, 24)


@CAN_LAY_OUT
@torch.no_grad()
@pytest.mark.parametrize('name', MKLDNN)
def test_without_the_kernel_layers_give_the_same(monkeypatch, name):
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')
    calls = counted(monkeypatch)
    torch.manual_seed(0)
    run, x = bfloat16_layer()
    fast = run(x)
    assert calls == [1]
    without(monkeypatch, name)
    assert not torch_compat.lays_out_bfloat16()
    torch.manual_seed(0)
    run, x = bfloat16_layer()
    assert torch.allclose(run(x).float(), fast.float(), atol=0.04, rtol=0.01)
    assert calls == [1]


def test_a_cpu_without_bfloat16_lays_nothing_out(monkeypatch):
    no = SimpleNamespace(**{name: lambda *a: False for name in MKLDNN})
    monkeypatch.setattr(torch.ops, 'mkldnn', no)
    assert not torch_compat.lays_out_bfloat16()


@pytest.mark.parametrize('has', ['avx512_bf16', 'amx_tile', None])
def test_instructions_by_what_is_public(monkeypatch, has):
    known = {'avx512_bf16': False, 'avx512_f': True} | ({has: True} if has else {})
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: known, raising=False)
    assert torch_compat.has_bfloat16_instructions() == bool(has)


@pytest.mark.parametrize('has', [(True, False), (False, True), (False, False)])
def test_instructions_by_the_older_names(monkeypatch, has):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: has[0], raising=False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: has[1], raising=False)
    assert torch_compat.has_bfloat16_instructions() == any(has)


def test_the_installed_torch_says_one_thing():
    """The public name and the older names agree. torch 2.2 has neither and returns False."""
    said = torch_compat.has_bfloat16_instructions()
    older = '_is_avx512_bf16_supported', '_is_amx_tile_supported'
    known = [getattr(torch.cpu, name)() for name in older if hasattr(torch.cpu, name)]
    if known or not hasattr(torch.cpu, 'get_capabilities'):
        assert said == any(known)


def test_a_torch_that_cannot_say_has_no_instructions(monkeypatch):
    for name in ('get_capabilities', '_is_avx512_bf16_supported', '_is_amx_tile_supported'):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert torch_compat.has_bfloat16_instructions() is False


def test_versions_are_allowed_within_the_block():
    config = import_module('torch._dynamo.config')
    before = config.cache_size_limit
    with torch_compat.versions_allowed(77):
        assert config.cache_size_limit == 77
    assert config.cache_size_limit == before != 77


class Older:
    """A torch._dynamo.config with the older name of the limit."""

    cache_size_limit = 8

    def patch(self, changes):
        return changes


def configured(monkeypatch, config):
    """Let torch_compat find this config, or none."""

    def find(name):
        if config is None:
            raise ModuleNotFoundError(name)
        return config

    monkeypatch.setattr(torch_compat, 'import_module', find)


@pytest.mark.parametrize('config', [None, SimpleNamespace(), SimpleNamespace(recompile_limit=8)])
def test_where_versions_cannot_be_allowed_results_are_the_same(monkeypatch, caplog, config):
    """Some functions run plainly."""
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='eager'))
    configured(monkeypatch, config)
    for _ in range(3):
        run = accelerate.Compiled(lambda x: 2 * x, 'doubling')
        for side in range(2, 2 + accelerate.SHAPES):
            x = torch.ones(side)
            assert torch.equal(run(x), 2 * x)
    assert 'is not compiled' not in caplog.text


def test_the_older_name_of_the_limit(monkeypatch):
    configured(monkeypatch, Older())
    assert torch_compat.versions_allowed(9) == {'cache_size_limit': 9}


def test_work_whose_reads_cannot_be_seen_runs_plainly(monkeypatch, caplog):
    """Nothing is captured, because a graph could read memory that was already freed."""
    assert issubclass(accelerate.Outside, torch_compat.DispatchMode)
    with monkeypatch.context() as patch:
        patch.delattr('torch.utils._python_dispatch.TorchDispatchMode')
        spec = spec_from_file_location('older', torch_compat.__file__)
        older = module_from_spec(spec)
        spec.loader.exec_module(older)
    assert torch_compat.DispatchMode is not older.DispatchMode
    monkeypatch.setattr(accelerate, 'Outside', older.DispatchMode)
    run = accelerate.Replayed(lambda x: (2 * x, None), 'doubling')
    for n in range(3):
        result, _ = run._replayed('key', (torch.full((2,), float(n)),))
        assert result.tolist() == [2.0 * n] * 2
    assert 'doubling runs without a CUDA graph: this version of torch has no' in caplog.text
