import pytest
import torch
from torch import nn

from cliptrase_ros.model import torchscript


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = [1, 2]
        self.shares = [0.5]
        self.name = 'parts'
        storage = torch.arange(24.0)
        self.rows = nn.Parameter(storage[4:16].view(3, 4))
        self.columns = nn.Parameter(storage[4:16].view(3, 4).T)
        self.register_buffer('nothing', torch.empty(0, 3))
        self.register_buffer('bits', torch.tensor([True, False]))
        self.register_buffer('short', torch.ones(2, dtype=torch.bfloat16))
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.sizes[0] * self.shares[0]


@pytest.mark.filterwarnings('ignore::FutureWarning')  # torch.jit is deprecated
def test_tensors_lists_and_classes_of_an_archive(tmp_path):
    module = Parts()
    torch.jit.script(module).save(tmp_path / 'a')
    found, classes = torchscript.read(tmp_path / 'a')
    for name, expected in module.state_dict().items():
        value = found
        for part in name.split('.'):
            value = value[part]
        assert value.dtype == expected.dtype and torch.equal(value, expected)
    assert found['columns'].stride() == (1, 4)
    assert (found['sizes'], found['shares'], found['name']) == ([1, 2], [0.5], 'parts')
    assert {'Parts', 'Linear', 'GELU'} <= classes
