"""A video segmented frame by frame, as the frames arrive."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stm_fast.errors import ArgumentError
from stm_fast.inference import run_state
from stm_fast.inference.exclusive import Exclusive, one_at_a_time
from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.frames import Image
from stm_fast.inference.network import FrameNetwork
from stm_fast.inference.objects import Mask, annotated_objects, to_ids, to_mask
from stm_fast.inference.references import frames_before
from stm_fast.inference.run_state import RunState
from stm_fast.inference.segmentation import Segmentation
from stm_fast.inference.top_k import readable_top_k
from stm_fast.inference.video import Video
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.stores import Store
from stm_fast.models.aggregation import PROBABILITY_FLOOR
from stm_fast.models.stm import STM
from stm_fast.ops.backends.registry import check_name


class Segmenter(Exclusive):
    """Follow objects through a video from the mask of its first frame.

    ```python
    segmenter = Segmenter(load_model("compact"))
    segmenter.start(frames[0], mask)
    for frame in frames[1:]:
        mask = segmenter.step(frame).mask
    ```

    Frames are numpy `(H, W, 3)` or torch `(3, H, W)` or `(1, 3, H, W)`, uint8 or floating in [0, 1], RGB, all of one
    size. Masks are integers `(H, W)`: ids of objects, 0 for the background. A frame enters the memory when the next one
    arrives, so that the memory holds what `annotate` and `remove` made of it. A call that raises leaves the video where
    it was: `step` can be called again with the same frame. A segmenter is for one thread at a time: a call while
    another thread is in one raises.

    The network runs on the device and in the dtype of its weights, on an inference copy of the model given, in which
    batch norm is folded away; later changes of the model do not reach the segmenter.

    Args:
        model: see `stm_fast.load_model`.
        policy: which frames the memory keeps.
        size: shorter side, in pixels, of the frames that the network sees; "auto" for the model's best, which depends
            on the size of the frames; None for their own size.
        top_k: read only the k best memory tokens of each location; "auto" for as many as suit the model, where the
            memory can be read so; None for all of them.
        backend: of the memory read, see `stm_fast.memory_read`. What else a network reads takes "auto".
        store: where kept frames move, the host's memory or a disk, so that the memory is not bounded by the device's;
            see `stm_fast.memory.stores`. None keeps them on the device.
        value_dtype: what memory values are stored in, see `stm_fast.memory.bank.MemoryBank`.
        memory: what makes the memory, from a policy, a store and a value_dtype, and with `shared_keys=True` for a model
            that shares keys: `MemoryBank`, or `stm_fast.memory.distributed.ShardedMemory` for one that several
            processes share, which then all follow the same video in step.
    """

    def __init__(
        self,
        model: STM,
        *,
        policy: MemoryPolicy | None = None,
        size: int | Literal["auto"] | None = None,
        top_k: int | Literal["auto"] | None = "auto",
        backend: str = "auto",
        store: Store | None = None,
        value_dtype: torch.dtype | None = None,
        memory: Callable[..., MemoryBank] = MemoryBank,
    ) -> None:
        super().__init__()
        if size != "auto" and size is not None and size < model.stride:
            raise ArgumentError("size", f'must be at least {model.stride} pixels, "auto" or None, got {size!r}')
        check_name(backend)
        self.size = size
        self.backend = backend
        self.store = store
        self.value_dtype = value_dtype
        self._network = FrameNetwork(model)
        self._new_memory = memory
        self._fingerprint = ""
        self._video = self._empty_video(policy)
        self.top_k = readable_top_k(top_k, model.card, self.memory)
        self._wanted_top_k = model.card.top_k if top_k == "auto" else top_k

    @property
    def model(self) -> STM:
        """The inference copy of the model."""
        return self._network.model

    @property
    def memory(self) -> MemoryBank:
        """The memory of the video; each video begins with a new one.

        `memory.frozen = True` keeps it as it is, `memory.forget(frame)` drops a frame that was a mistake, and
        `memory.table(segmenter.objects)` shows what is in it.
        """
        return self._video.memory

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids of the objects followed now."""
        return self._video.current.objects if self._video.current else ()

    @property
    def started(self) -> bool:
        """Whether there is a video: `start` or `restore` was called."""
        return self._video.current is not None

    @property
    def frame_index(self) -> int:
        """Number of the current frame."""
        return self._video.current.index if self._video.current else 0

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent since `start` in each of "encode_query", "read", "decode" and "encode_memory".

        On a GPU they are those of its stream, which works while the host does other things. Reading them waits for what
        is queued; a step does not.
        """
        return self._video.times.seconds()

    @one_at_a_time
    def start(
        self,
        frame: Image,
        mask: "Mask | None" = None,
        *,
        references: Sequence[tuple[Image, Mask]] = (),
        memory: str | Path | None = None,
    ) -> Segmentation:
        """Begin a video and forget what was remembered of another one.

        Args:
            frame: the first frame.
            mask: its objects, at least one; None where references or a memory show them.
            references: frames of other videos, or pictures, with their masks. They stay in memory as annotated frames
                do, as frames before the first. Of any size: they are fitted into that of the frames. An object that is
                in no pixel of a reference is nowhere in it.
            memory: a file that `save` wrote in another video, of this model and these settings. Its objects are
                followed here, from what was remembered of them, which counts as frames before the first; a mask
                corrects them or adds others.

        Raises:
            TypeError: the frame or the mask has another type or dtype than those above.
            ValueError: they have another shape or range, the mask or a reference holds no object, there is neither of
                the three, references are given with a memory, or the memory is of frames of another size.
            RunStateError: see `restore`.
        """
        if memory is not None and references:
            raise ValueError(f"references must be none with a memory, got {len(references)}")
        rgb = self._network.rgb(frame)
        geometry = self._network.geometry((rgb.shape[2], rgb.shape[3]), self.size)
        first = self._network.frame(0, rgb, geometry)
        ids = None if mask is None else to_ids(mask, geometry.outer, self._network.device)
        objects = () if ids is None else annotated_objects(ids, None)
        before = frames_before(references, geometry, self._network)
        if ids is None and not before and memory is None:
            raise ValueError("mask must be given, or references or a memory that show the objects; got none of them")
        with self._another_video():
            logits = None
            if memory is not None:
                before = [self._take_over(memory, first)]
            for earlier in before:
                self._video.memorise(earlier)
            if before and before[-1].objects:
                logits = self._follow(before[-1], first)
            if ids is not None:
                first.annotate(ids, objects)
                logits = None
            return self._commit(first, logits)

    @one_at_a_time
    def step(self, frame: Image) -> Segmentation:
        """Segment the next frame.

        Args:
            frame: of the first frame's size.

        Raises:
            TypeError: the frame has another type or dtype than those above.
            ValueError: it has another shape, size or range.
            RuntimeError: `start` was not called.
        """
        last = self._current()
        following = self._next(last, frame)
        self.memory.commit_read()
        self._video.memorise(last)
        try:
            return self._commit(following, self._follow(last, following) if last.objects else None)
        except BaseException:
            self.memory.roll_back_read()
            raise

    @one_at_a_time
    def recall(self, frame: Image, mask: Mask) -> None:
        """Take the next frame with a mask that `step` gave it in an earlier run over the same frames.

        Nothing is read from memory, and only frames that the policy keeps are encoded, so that this costs a fraction of
        a step. The memory differs from that of one run in that these frames are remembered with hard masks, and a
        network that looks at the masks of the frame before does not see these.

        Args:
            frame: of the first frame's size.
            mask: ids; those of objects that are not followed now count as background.

        Raises:
            TypeError: the frame or the mask is of another type or dtype than `step` and `annotate` take.
            ValueError: it has another shape, size or range.
            RuntimeError: `start` was not called.
        """
        last = self._current()
        following = self._next(last, frame)
        ids = to_ids(mask, last.geometry.outer, self._network.device)
        if last.chosen or self.memory.policy.keeps(last.index, annotated=bool(last.annotated)):
            self._video.memorise(last)
        if last.objects:
            following.place(ids, last.objects)
        self._video.current = following

    @one_at_a_time
    def annotate(self, mask: Mask, objects: Collection[int] | None = None) -> Segmentation:
        """Say where objects are in the current frame: new ids are followed from here on, known ones are corrected.

        Pixels of other objects change where the annotated ones take or leave them. Annotated frames are remembered as
        the first one is, see `MemoryPolicy`.

        Args:
            mask: ids of the current frame.
            objects: the ids that the mask speaks of; one that has no pixel in it is nowhere in this frame. None for all
                ids in the mask. At least one in either case.

        Raises:
            TypeError: the mask is of another type or does not hold integers.
            ValueError: it has another size than the frames or holds no object, or `objects` are not ids or none.
            RuntimeError: `start` was not called.
        """
        current = replace(self._current())
        ids = to_ids(mask, current.geometry.outer, self._network.device)
        current.annotate(ids, annotated_objects(ids, objects))
        return self._commit(current)

    @one_at_a_time
    def remember(self) -> None:
        """Keep the current frame in memory as if its masks had been given.

        Raises:
            RuntimeError: `start` was not called.
        """
        self._video.current = replace(self._current(), chosen=True)

    @one_at_a_time
    def remove(self, object_id: int) -> None:
        """Stop following an object and forget it, also as a reason to keep the current frame.

        Raises:
            ValueError: there is no such object.
            RuntimeError: `start` was not called.
        """
        current = replace(self._current())
        if object_id not in self.objects:
            raise ValueError(f"object_id must be one of {self.objects}, got {object_id}")
        row = self.objects.index(object_id)
        current.remove(object_id)
        if row < self.memory.objects:
            self.memory.remove(row)
        self._video.current = current

    @one_at_a_time
    def clear(self) -> None:
        """Forget the video; the next call is `start` or `restore`."""
        self._video = self._empty_video(self.memory.policy)

    @one_at_a_time
    def save(self, path: str | Path, extra: object = None) -> None:
        """Write everything that the next step depends on, memory and current frame, to a .safetensors file.

        A segmenter of the same model and settings resumes from there with `restore`, to the very same masks: the
        engines of the CPU kernels that read the memory are saved as well. Of a memory that processes share, each writes
        its own part: all at the same frame, each to a path of its own.

        Args:
            path: of the file.
            extra: anything that JSON can hold, which `restore` returns.

        Raises:
            RuntimeError: `start` was not called.
            OSError: the file cannot be written; one that was there before stays.
        """
        state = RunState(self._current(), *self.memory.state(), self._video.engines, extra)
        run_state.save(path, state, self._identity())

    @one_at_a_time
    def restore(self, path: str | Path) -> object:
        """Resume where `save` was called, and forget what was remembered before.

        A `MediaNotice` tells if this machine lacks an engine of the CPU kernels that the saved video was read by.

        Returns:
            The `extra` that was saved.

        Raises:
            RunStateError: the file is missing, damaged, of another model or other settings, or of another process's
                part of a memory.
            OSError: the store has no room.
        """
        saved = run_state.load(path, self._identity(), self._network.device)
        with self._another_video():
            self.memory.restore(saved.tensors, saved.memory, self._network.device)
            self._video.current = saved.frame
            self._video.engines.update(run_state.available_engines(saved.engines, path))
        return saved.extra

    def _empty_video(self, policy: MemoryPolicy | None) -> Video:
        shared = {"shared_keys": True} if self.model.shares_keys else {}
        memory = self._new_memory(policy, store=self.store, value_dtype=self.value_dtype, **shared)
        return Video(memory, self._network)

    @contextmanager
    def _another_video(self) -> Iterator[None]:
        """Return a context that begins with an empty memory; if it raises, the video before continues."""
        before = self._video
        self._video = self._empty_video(self.memory.policy)
        try:
            yield
        except BaseException:
            self._video = before
            raise

    def _identity(self) -> dict[str, str]:
        """Return what a saved state belongs to."""
        self._fingerprint = self._fingerprint or run_state.fingerprint(self.model)
        identity = {
            "model": self._fingerprint,
            "policy": repr(self.memory.policy),
            "size": str(self.size),
            "top_k": str(self._wanted_top_k),
            "value_dtype": str(self.value_dtype),
        }
        return identity if self.memory.part is None else identity | {"part": self.memory.part}

    def _current(self) -> FrameState:
        if self._video.current is None:
            raise RuntimeError("call start(frame, mask) first: there is no video yet")
        return self._video.current

    def _next(self, last: FrameState, image: Image) -> FrameState:
        """Return the frame after the last one, without objects; nothing changes before it is committed."""
        rgb = self._network.rgb(image)
        if (size := (rgb.shape[2], rgb.shape[3])) != last.geometry.outer:
            raise ValueError(f"frame must have the first frame's size {last.geometry.outer}, got {size}")
        return self._network.frame(last.index + 1, rgb, last.geometry)

    def _take_over(self, path: str | Path, first: FrameState) -> FrameState:
        """Take over the memory of another video; return its last frame, as the one before the first."""
        saved = run_state.load(path, self._identity(), self._network.device)
        last = saved.frame
        if last.frame.shape != first.frame.shape:
            seen, wanted = (tuple(state.frame.shape[2:]) for state in (last, first))
            raise ValueError(f"memory must be of frames that are {wanted} for the network, as these are, got {seen}")
        self.memory.restore(saved.tensors, saved.memory, self._network.device)
        self.memory.renumber(-1 - last.index)
        last.index = -1
        return last

    def _follow(self, last: FrameState, frame: FrameState) -> Tensor:
        return self._video.follow(last, frame, top_k=self.top_k, backend=self.backend)

    def _commit(self, frame: FrameState, logits: Tensor | None = None) -> Segmentation:
        """Make a frame the current one; logits are None for those of its probabilities."""
        if logits is None:
            logits = frame.outer.clamp(min=PROBABILITY_FLOOR).log()
        # `max` is vectorised over pixels, `argmax` is not.
        mask = to_mask(frame.outer.max(0).indices, frame.objects)
        result = Segmentation(frame.index, frame.objects, logits, frame.outer, mask, frame.uncertainty())
        self._video.current = frame
        return result
