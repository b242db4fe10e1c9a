"""Share a memory between processes: each holds and reads a part of it, and all predict the same masks.

Run: torchrun --nproc-per-node 2 examples/sharded_memory.py
 or: python examples/sharded_memory.py, alone in a group of one
"""

import os

import numpy as np
import torch
import torch.distributed as dist
from clip import intersection_over_union, render_clip

from stm_fast import MemoryPolicy, Segmenter, load_model
from stm_fast.memory import ShardedMemory


def join_group() -> torch.device:
    """Join the processes that torchrun started, if any; return this process's device."""
    if "LOCAL_RANK" not in os.environ:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return torch.device("cpu")
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.device_count() < int(os.environ["LOCAL_WORLD_SIZE"]):
        dist.init_process_group("gloo")
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl")
    return torch.device("cuda", local_rank)


def main() -> None:
    """Follow both objects of the clip on all ranks, and print which frames each of them holds."""
    device = join_group()
    clip = render_clip()
    segmenter = Segmenter(load_model("compact", device=device), policy=MemoryPolicy(every=3), memory=ShardedMemory)
    segmenter.start(clip.frames[0], clip.masks[0])
    masks = np.stack([segmenter.step(frame).mask.cpu().numpy() for frame in clip.frames[1:]])
    memory = segmenter.memory
    print(f"rank {memory.part} holds {[*memory.frames_here]} of {[*memory.frames]}", flush=True)

    everywhere = [masks] * dist.get_world_size()
    dist.all_gather_object(everywhere, masks)
    assert all((other == masks).all() for other in everywhere)
    if dist.get_rank() == 0:
        pairs = list(zip(masks, clip.masks[1:], strict=True))
        scores = [intersection_over_union(mask, truth, found) for mask, truth in pairs for found in (1, 2)]
        print(f"mean J {np.mean(scores):.3f}, the same on all ranks")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
