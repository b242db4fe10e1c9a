"""The read in inference mode and under DistributedDataParallel."""

import torch

from stm_fast.ops import memory_read
from tests.ops.cases import make_case

OPS = torch.ops.stm_fast


def test_inference_mode() -> None:
    case = make_case("xmem").requires_grad()
    with torch.inference_mode():
        result = case.read(memory_read, return_usage=True)
    assert result.value.is_inference()
    torch.testing.assert_close(result.value, case.read(memory_read).detach())


def test_trains_under_distributed_data_parallel() -> None:
    """A group of one process: DDP's gradient hooks see the gradients of a plain backward pass.

    The DDP module goes before its group does. Otherwise it is the group's last owner and joins gloo's threads while it
    holds the GIL; one of them may need the GIL to free the work that it has done, and both wait for ever.
    """
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        case = make_case("dot")
        model = torch.nn.Conv2d(5, 5, 1)
        gradients = []
        for wrap in (lambda module: module, torch.nn.parallel.DistributedDataParallel):
            model.zero_grad()
            memory_read(wrap(model)(case.query_key), case.memory_key, case.memory_value).square().sum().backward()
            gradients.append(model.weight.grad.clone())
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(*gradients)
