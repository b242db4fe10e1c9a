"""`stm_fast.track`: a video and its prompts in, the masks of all frames out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stm_fast.inference.objects import Mask
from stm_fast.media.frames import FrameSource
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.track import Corrections, Track

if TYPE_CHECKING:
    import torch

    from stm_fast.models.stm import STM


def track(
    video: "str | Path | FrameSource | Iterable[Any]",
    masks: "str | Path | Mask | Mapping[Any, str | Path | Mask] | None" = None,
    *,
    model: "str | Path | STM" = "compact",
    weights: str | Path | None = None,
    size: int | str | None = "auto",
    dtype: "str | torch.dtype" = "auto",
    device: "str | torch.device" = "auto",
    memory: str = "auto",
    memory_every: int = 5,
    memory_limit: int | str | None = None,
    top_k: int | str | None = "auto",
    backend: str = "auto",
    offload: str = "none",
    offload_to: str | Path | None = None,
    void: int | None = None,
    soft: int | None = None,
    corrections: Corrections | None = None,
    progress: bool = False,
) -> Track:
    """Track objects through a video from their masks.

    ```python
    for frame in stm_fast.track("video.mp4", "mask.png"):
        print(frame.name, frame.objects, frame.mask.shape)

    stm_fast.track("video.mp4", "mask.png", progress=True).save("result")
    ```

    The result is an iterator over `TrackedFrame`: index, name, image, mask, objects, uncertainty. Its `send` corrects
    the last frame and returns it again; `save` writes what `stm-fast segment` writes. The options and their defaults
    are those of the command line.

    Args:
        video: a path that `stm_fast.media.sources.open_frames` takes; or RGB frames, numpy `(H, W, 3)` or torch
            `(3, H, W)`, uint8 or floating in [0, 1]: a list, or an iterator such as a live source.
        masks: the prompts: the mask of the first frame, or masks of several frames. A file, a folder of files named
            like their frames, an integer array `(H, W)` of ids, or a mapping from numbers or names of frames to files
            or arrays. None if the first correction shows the objects.
        model: "compact", "resnet50" with `weights`, a file of weights, or a network from `load_model`.
        weights: file of the weights of a model given by name.
        size: shorter side, in pixels, that the network works at; "auto" for the model's best.
        dtype: "auto", "float32", "bfloat16" or "float16"; ignored if `model` is a network.
        device: "auto", "cpu", "cuda" ...; ignored if `model` is a network.
        memory: "auto", "official", "window:N", "least-used:N", "long-term" or "diverse".
        memory_every: distance between remembered frames.
        memory_limit: maximum size of the memory in bytes, a number or a text such as "4GB".
        top_k: read only the k best memory tokens; "auto" for as many as suit the model, None for all.
        backend: of the memory read.
        offload: where remembered frames move to: "none", "host" or "disk".
        offload_to: folder for "disk".
        void: an id in the masks that is no object, such as 255.
        soft: also yield the probability of each object in `TrackedFrame.soft`, and save it, with 8 or 16 bits; None for
            neither.
        corrections: called with each frame; a mask that it returns corrects the frame before it is yielded. If a run
            is resumed from its state, it is not called with the frames up to there, which stay as corrected before.
        progress: show progress on stderr: a bar in a terminal, otherwise lines.

    Raises:
        MediaError: the video or a mask cannot be used.
        WeightsError: the weights cannot be used.
        ArgumentError: an option is out of range.
        TypeError: a frame or a mask has the wrong type.
        ValueError: a mask differs in size from the frames, or a frame has the wrong shape or range.
    """
    options = TrackOptions(
        model=str(model) if isinstance(model, str | Path) else type(model).__name__,
        weights=None if weights is None else str(weights),
        size=size,
        memory_every=memory_every,
        memory=memory,
        memory_limit=memory_limit,
        top_k=top_k,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        backend=backend,
        offload=offload,
        void=void,
        soft=soft,
    )
    return Track.open(
        video,
        masks,
        options,
        network=None if isinstance(model, str | Path) else model,
        offload_to=offload_to,
        corrections=corrections,
        progress=progress,
    )
