import numpy as np
import torch

from cliptrase_ros.runtime import host


def test_the_host_may_look_at_its_own_memory_only(device):
    assert host.may_look(torch.zeros(3, device=device)) == (device.type == 'cpu')
    assert not host.may_look(torch.zeros(3, device='meta'))


def test_tensors_come_as_arrays_of_their_dtype(device):
    labels = torch.arange(6, dtype=torch.uint8, device=device).view(2, 3)
    confidence = torch.linspace(0, 1, 6, device=device).view(3, 2).T
    got = host.fetch(labels, confidence)
    assert [a.dtype for a in got] == [np.uint8, np.float32]
    assert (got[0] == [[0, 1, 2], [3, 4, 5]]).all()
    assert np.allclose(got[1], [[0, 0.4, 0.8], [0.2, 0.6, 1]])


def test_on_the_cpu_nothing_is_copied():
    x = torch.zeros(3)
    [array] = host.fetch(x)
    array[1] = 7
    assert x[1] == 7
