"""Compiled and captured functions.

Most tests replace CUDA graphs by a record of the calls, so that their bookkeeping runs everywhere.
With a GPU, the real graphs are tested too.
"""

import gc
import logging
import weakref
from functools import partial
from typing import NamedTuple

import pytest
import torch

from cliptrase_ros.runtime import accelerate
from cliptrase_ros.runtime.accelerate import Compiled, Outside, Replayed


def double(x):
    return 2 * x


def triple(x):
    return 3 * x


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, 'cliptrase_ros')
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize('times, kept', [([2.0, 1.0], True), ([1.0, 2.0], False)])
def test_what_is_compiled_is_kept_only_if_it_is_faster(monkeypatch, told, times, kept):
    # The "compiled" function gives another result, to show which one runs.
    monkeypatch.setattr(torch, 'compile', lambda function, dynamic: triple)
    monkeypatch.setattr(accelerate, 'compare', lambda functions, args: times)
    run, x = Compiled(double, 'doubling'), torch.ones(2, 3)
    assert torch.equal(run(x), 3 * x if kept else 2 * x)
    assert torch.equal(run(5 * x), 15 * x if kept else 10 * x)
    start, end = told()
    assert start == 'compiling doubling for 2 x 3'
    verdict = 'compiled is kept' if kept else 'plain is kept'
    assert (
        end
        == f'doubling for 2 x 3: {1e3 * times[1]} ms compiled, {1e3 * times[0]} ms plain; {verdict}'
    )


def test_each_shape_is_compiled_once_and_only_so_many(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda function, dynamic: compiled.append(0) or double)
    run = Compiled(double, 'doubling')
    for _ in range(2):
        for side in range(1, accelerate.SHAPES + 4):
            assert torch.equal(run(torch.ones(side)), torch.full((side,), 2.0))
    assert len(compiled) == accelerate.SHAPES


def test_what_cannot_be_compiled_runs_plainly(monkeypatch, told):
    def compile(function, dynamic):
        raise RuntimeError('no compiler here\nand more')

    monkeypatch.setattr(torch, 'compile', compile)
    run = Compiled(double, 'doubling')
    for _ in range(2):
        assert torch.equal(run(torch.ones(2)), torch.full((2,), 2.0))
    assert told()[1:] == ['doubling for 2 is not compiled: no compiler here']


@torch.no_grad()
def test_functions_are_compared_in_turn(device):
    calls = []
    x = torch.ones(4, device=device)
    times = accelerate.compare([lambda x: calls.append('a'), lambda x: calls.append('b')], (x,))
    assert calls == ['a', 'b'] * (len(calls) // 2) and len(calls) > 6
    assert len(times) == 2 and all(0 <= t < 10 for t in times)


class Recorder:
    """Replaces `accelerate.captured`: keeps arguments and results in place, as a graph does."""

    def __init__(self):
        self.captured = 0

    def __call__(self, function, args):
        self.captured += 1
        own = [x.clone() for x in args]
        result = function(*own)

        def replay(*given):
            for mine, x in zip(own, given, strict=True):
                mine.copy_(x)
            result[0].copy_(function(*own)[0])
            return (result[0].clone(), result[1])

        return replay


@pytest.fixture
def replayed(monkeypatch):
    """Return (a Replayed that treats the CPU as a GPU, the plain calls, the recorder)."""
    recorder, calls = Recorder(), []
    monkeypatch.setattr(accelerate, 'captured', recorder)

    def function(x):
        calls.append(tuple(x.shape))
        return double(x), None

    run = Replayed(function, 'doubling')
    return lambda x: run._replayed(accelerate._key((x,)), (x,)), calls, recorder


def test_the_first_call_is_plain_the_second_captures_and_others_replay(replayed):
    run, calls, recorder = replayed
    results = [run(torch.full((2,), float(n)))[0] for n in range(5)]
    assert [r.tolist() for r in results] == [[2.0 * n] * 2 for n in range(5)]
    assert recorder.captured == 1 and calls[:2] == [(2,), (2,)]


def test_graphs_are_kept_for_the_last_shapes_only(replayed):
    run, _, recorder = replayed
    for side in range(1, accelerate.SHAPES + 2):
        for _ in range(2):
            run(torch.ones(side))
    assert recorder.captured == accelerate.SHAPES + 1
    run(torch.ones(accelerate.SHAPES + 1))  # the newest shape is still there
    assert recorder.captured == accelerate.SHAPES + 1
    for _ in range(2):
        run(torch.ones(1))  # the oldest shape was dropped
    assert recorder.captured == accelerate.SHAPES + 2


def test_a_call_that_fails_is_no_warm_up(monkeypatch):
    recorder, memory = Recorder(), iter([False, True, True, True, True])
    monkeypatch.setattr(accelerate, 'captured', recorder)

    def function(x):
        if not next(memory):
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return double(x), None

    run, x = Replayed(function, 'doubling'), torch.ones(2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run._replayed('key', (x,))
    for captured in (0, 1):
        assert run._replayed('key', (x,))[0].tolist() == [2.0, 2.0]
        assert recorder.captured == captured


def test_where_memory_runs_out_graphs_are_given_up(replayed, monkeypatch):
    run, _, recorder = replayed
    for _ in range(2):
        run(torch.ones(2))

    def captured(function, args):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    run(torch.ones(3))
    monkeypatch.setattr(accelerate, 'captured', captured)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(torch.ones(3))
    monkeypatch.setattr(accelerate, 'captured', recorder)
    for _ in range(2):
        assert run(torch.ones(2))[0].tolist() == [2.0, 2.0]
    assert recorder.captured == 2


class Owner:
    """An object that replays and compiles its own method, as an encoder does."""

    def __init__(self):
        self.replayed = Replayed(self.method, 'a method')
        self.compiled = Compiled(self.method, 'a method')

    def method(self, x):
        return 2 * x


def test_a_methods_owner_is_not_kept_alive():
    owner, x = Owner(), torch.ones(1)
    assert float(owner.replayed(x)) == 2
    alive = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert alive() is None
    finally:
        gc.enable()


def test_what_cannot_be_captured_runs_plainly(replayed, monkeypatch, told):
    run, calls, _ = replayed

    def captured(function, args):
        raise RuntimeError('operation not permitted when stream is capturing\nand more')

    monkeypatch.setattr(accelerate, 'captured', captured)
    for n in range(4):
        assert run(torch.full((1,), float(n)))[0].tolist() == [2.0 * n]
    assert len(calls) == 4
    reason = 'operation not permitted when stream is capturing'
    assert told() == [f'doubling runs without a CUDA graph: {reason}']


@torch.no_grad()
def test_what_is_read_from_outside_is_known(device):
    given, table = torch.ones(3, device=device), torch.arange(6.0, device=device)
    outside = Outside()
    with outside:
        half = given / 2
        result = torch.stack([half, table[:3]]).sum(0) + table[3:] * half
    assert result.tolist() == [2.0, 3.5, 5.0]
    found = {x.untyped_storage().data_ptr() for x in outside.read}
    assert found == {x.untyped_storage().data_ptr() for x in (given, table)}
    assert len(outside.read) == 2


class Pair(NamedTuple):
    one: torch.Tensor
    rest: object


def test_trees_keep_their_kinds():
    x, y = torch.ones(2), torch.zeros(3)
    tree = [Pair(x, {'a': (y, 'word', None)}), (1, [y])]
    got = accelerate._mapped(lambda tensor: tensor + 1, tree)
    [pair, (number, [last])] = got
    assert type(got) is list and type(pair) is Pair and type(got[1]) is tuple and number == 1
    assert pair.one.tolist() == [2, 2] and pair.rest['a'][1:] == ('word', None)
    assert pair.rest['a'][0].tolist() == last.tolist() == [1, 1, 1]
    assert [id(tensor) for tensor in accelerate._tensors(tree)] == [id(x), id(y), id(y)]


def test_results_stay_what_they_are(device):
    run = Replayed(lambda x: (double(x), {'side': len(x)}), 'doubling')
    kept = [run(torch.full((3,), float(n), device=device)) for n in range(4)]
    expected = [([2.0 * n] * 3, {'side': 3}) for n in range(4)]
    assert [(x.tolist(), rest) for x, rest in kept] == expected
    assert len(run._graphs) == (device.type == 'cuda')  # other devices capture nothing


@pytest.mark.slow
@torch.no_grad()
def test_a_real_compilation(told):
    run, x = Compiled(lambda x: torch.sin(x) * 2 + x.exp(), 'a sum'), torch.randn(50, 60)
    assert torch.allclose(run(x), torch.sin(x) * 2 + x.exp(), atol=1e-5)
    assert 'kept' in told()[-1]


@torch.no_grad()
def test_more_owners_than_torch_has_versions_for_are_compiled(monkeypatch):
    """torch's limit of 8 versions is for each piece of code, not for each object that runs it."""
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    compiled = partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, 'compile', compiled)
    owners = [Owner() for _ in range(5)]
    for number, owner in enumerate(owners):
        for side in (2, 3, 4):
            x = torch.ones(side + 3 * number)
            assert torch.equal(owner.compiled(x), 2 * x)
    assert len(graphs) == 15
