import torch

from mssync.device import constant

CPU = torch.device("cpu")


def test_a_constant_is_made_once_and_has_gradients_whoever_asked_first():
    with torch.inference_mode():
        first = constant([2, 0], CPU)
    assert constant((2, 0), CPU) is first
    source = torch.arange(3.0, requires_grad=True)
    source.index_select(0, first).sum().backward()
    assert source.grad.tolist() == [1, 0, 1]
