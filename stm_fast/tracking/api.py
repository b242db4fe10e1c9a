"""`stm_fast.track`: a video and its prompts in, the masks of all frames out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stm_fast.inference.objects import Mask
from stm_fast.media.frames import FrameSource
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.given import Corrections
from stm_fast.tracking.hinted import Hinted
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.route import Route
from stm_fast.tracking.track import Track

if TYPE_CHECKING:
    import torch

    from stm_fast.models.stm import STM
    from stm_fast.prompters import Hints, Prompter


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
    corrections: "Corrections | str | Path | Mapping[Any, str | Path | Mask | Correction] | None" = None,
    from_frame: int | str | None = None,
    direction: str = "forward",
    frames: str | None = None,
    hints: "Mapping[int, Hints] | None" = None,
    prompter: "str | Prompter" = "grabcut",
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
        masks: the prompts: the mask of the first frame (or of `from_frame`), or masks of several frames. A file, a
            folder of files named like their frames, an integer array `(H, W)` of ids, or a mapping from numbers or
            names of frames to files or arrays. None if the first correction shows the objects.
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
        corrections: masks of frames in which objects are wrong. A folder of masks named like their frames; or a mapping
            from numbers or names of frames to files, arrays or `Correction`s. Or a function that is called with each
            frame: a mask that it returns corrects the frame before it is yielded. If a run is resumed from its state,
            it is not called with the frames up to there, which stay as corrected before.
        from_frame: name of the frame at which tracking begins, or its number from 0; see `Route`.
        direction: "forward", "backward" or "both": forward from `from_frame`, then backward from there.
        frames: range of the frames that are tracked, "A:B" or "A:B:S": from A to the one before B, every S-th.
        hints: boxes and points of objects in the first frame (or in `from_frame`), by id from 1 to 255, in place of
            masks or beside them; see `stm_fast.prompters.Hints`.
        prompter: that turns hints into masks: "grabcut", "sam2", one that a package registers, or a callable.
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
        Hinted(hints, prompter, masks) if hints else masks,
        options,
        network=None if isinstance(model, str | Path) else model,
        offload_to=offload_to,
        corrections=corrections,
        route=Route(direction, from_frame, frames),
        progress=progress,
    )
