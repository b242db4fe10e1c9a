"""A video segmented frame by frame, as the frames arrive."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.inference import run_state
from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.frames import Geometry, Image, fitted, to_rgb
from stm_fast.inference.objects import MAX_ID, Mask, ids_in, to_ids, to_mask, without_holes
from stm_fast.inference.run_state import RunState
from stm_fast.inference.timing import stage_times
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.offload import Store
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.models.aggregation import PROBABILITY_FLOOR, aggregate, other_masks
from stm_fast.models.fusion import inference_copy
from stm_fast.models.stm import STM
from stm_fast.ops import cpu_engines
from stm_fast.ops.backends.registry import check_name

STAGES = ("encode_query", "read", "decode", "encode_memory")
_PIXELS_AT_ONCE = 8 * 480 * 864

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Segmenter")


def one_at_a_time(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method of a segmenter raise while another thread is in one of them, in inference mode."""

    @wraps(method)
    def alone(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                f"{method.__name__} was called while another thread used this Segmenter: give each thread its own"
            )
        try:
            with torch.inference_mode():
                return method(self, *args, **kwargs)
        finally:
            self._busy.release()

    return alone


@dataclass(frozen=True)
class Segmentation:
    """Where the objects of one frame are. Tensors have the input's size and live on the model's device.

    They are inference tensors, which the segmenter still reads: clone one before changing it.

    Attributes:
        index: number of the frame, from 0.
        objects: ids of the O objects, in the order of the rows below.
        logits: background first, then the objects `(O + 1, H, W)`, float32; `probabilities` is their softmax.
        probabilities: `(O + 1, H, W)`, float32, summing to one.
        mask: the most probable id of each pixel, 0 for the background `(H, W)`; uint8, or int32 with ids above 255.
        uncertainty: of each object `(O,)`, float32, see `stm_fast.memory.certainty.uncertainty`; NaN for an object
            whose mask was given, and for one that is nowhere.
    """

    index: int
    objects: tuple[int, ...]
    logits: Tensor
    probabilities: Tensor
    mask: Tensor
    uncertainty: Tensor


class Segmenter:
    """Follows objects through a video from the mask of its first frame.

    ```python
    segmenter = Segmenter(load_model("compact"))
    segmenter.start(frames[0], mask)
    for frame in frames[1:]:
        mask = segmenter.step(frame).mask
    ```

    Frames are numpy `(H, W, 3)` or torch `(3, H, W)` or `(1, 3, H, W)`, uint8 or floating in [0, 1], RGB, all of one
    size. Masks are integers `(H, W)`: ids of objects, 0 for the background. A frame enters the memory when the next one
    arrives, so that what `annotate` and `remove` do to it is what is remembered. A call that raises leaves the video
    where it was: `step` can be called again with the same frame. A segmenter is for one thread at a time: a call while
    another thread is in one raises.

    The network runs on the device and in the dtype of its weights, on an inference copy of the model given, in which
    batch norm is folded away; later changes of the model do not reach the segmenter.

    Args:
        model: see `stm_fast.load_model`.
        policy: which frames the memory keeps.
        size: shorter side, in pixels, of the frames that the network sees; "auto" for the model's best, which depends
            on the size of the frames; None for their own size.
        top_k: read only the k best memory tokens of each location; None for all of them.
        backend: of the memory read, see `stm_fast.memory_read`.
        store: where kept frames move, the host's memory or a disk, so that the memory is not bounded by the device's;
            see `stm_fast.memory.offload`. None keeps them on the device.
        value_dtype: what memory values are stored in, see `stm_fast.memory.bank.MemoryBank`.
        memory: what makes the memory, from a policy, a store and a value_dtype: `MemoryBank`, or
            `stm_fast.memory.sharded.ShardedMemory` for one that several processes share, which then all follow the same
            video in step.

    Attributes:
        model: the inference copy.
        memory: the memory bank. `memory.frozen = True` keeps it as it is, `memory.forget(frame)` drops a frame that was
            a mistake, and `memory.table(segmenter.objects)` shows what is in it. Each video begins with a new one.
    """

    _state: "FrameState | None"

    def __init__(
        self,
        model: STM,
        *,
        policy: MemoryPolicy | None = None,
        size: int | Literal["auto"] | None = None,
        top_k: int | None = None,
        backend: str = "auto",
        store: Store | None = None,
        value_dtype: torch.dtype | None = None,
        memory: Callable[..., MemoryBank] = MemoryBank,
    ) -> None:
        if size != "auto" and size is not None and size < model.stride:
            raise ValueError(f'size must be at least {model.stride} pixels, "auto" or None, got {size!r}')
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1 or None, got {top_k}")
        if store is not None and top_k is not None:
            raise ValueError(f"top_k must be None with a store: the best tokens of parts are not the best, got {top_k}")
        if top_k is not None and value_dtype == torch.int8:
            raise ValueError(f"top_k must be None with values in int8: they are read part by part, got {top_k}")
        check_name(backend)
        self.model = inference_copy(model)
        self.size = size
        self.top_k = top_k
        self.backend = backend
        self.store = store
        self.value_dtype = value_dtype
        self._new_memory = memory
        self._fingerprint = ""
        self._busy = threading.RLock()
        weight = next(self.model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._forget(policy)
        if top_k is not None and self.memory.part is not None:
            raise ValueError(
                f"top_k must be None with a memory in parts: their best tokens are not the best, got {top_k}"
            )

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids of the objects followed now."""
        return self._state.objects if self._state else ()

    @property
    def started(self) -> bool:
        """Whether there is a video: `start` or `restore` was called."""
        return self._state is not None

    @property
    def frame_index(self) -> int:
        """Number of the current frame."""
        return self._state.index if self._state else 0

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent since `start` in each of "encode_query", "read", "decode" and "encode_memory".

        On a GPU they are those of its stream, which works while the host does other things. Reading them waits for what
        is queued; a step does not.
        """
        return self._times.seconds()

    @one_at_a_time
    def start(
        self,
        frame: Image,
        mask: "Mask | None" = None,
        *,
        references: Sequence[tuple[Image, Mask]] = (),
        memory: str | Path | None = None,
    ) -> Segmentation:
        """Begins a video; whatever was remembered of another one is forgotten.

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
        rgb = to_rgb(frame, self._device)
        geometry = self._geometry((rgb.shape[2], rgb.shape[3]))
        state = FrameState.without_objects(0, geometry, self._for_network(rgb, geometry))
        ids = None if mask is None else to_ids(mask, geometry.outer, self._device)
        objects = () if ids is None else annotated_objects(ids, None)
        before = self._referred(references, geometry)
        if ids is None and not before and memory is None:
            raise ValueError("mask must be given, or references or a memory that show the objects; got none of them")
        with self._another_video():
            logits = None
            if memory is not None:
                before = [self._remembered_from(memory, state)]
            for earlier in before:
                self._memorise(earlier)
            if before and before[-1].objects:
                logits = self._follow(before[-1], state)
            if ids is not None:
                state.annotate(ids, objects)
                logits = None
            return self._commit(state, logits)

    @one_at_a_time
    def step(self, frame: Image) -> Segmentation:
        """Segments the next frame.

        Args:
            frame: of the first frame's size.

        Raises:
            TypeError: the frame has another type or dtype than those above.
            ValueError: it has another shape, size or range.
            RuntimeError: `start` was not called.
        """
        last = self._started()
        state = self._next(last, frame)
        self.memory.settle_read()
        self._memorise(last)
        try:
            return self._commit(state, self._follow(last, state) if last.objects else None)
        except BaseException:
            self.memory.undo_read()
            raise

    @one_at_a_time
    def annotate(self, mask: Mask, objects: Collection[int] | None = None) -> Segmentation:
        """Says where objects are in the current frame: new ids are followed from here on, known ones are corrected.

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
        state = replace(self._started())
        ids = to_ids(mask, state.geometry.outer, self._device)
        state.annotate(ids, annotated_objects(ids, objects))
        return self._commit(state)

    @one_at_a_time
    def remember(self) -> None:
        """Keeps the current frame in memory as if its masks had been given.

        Raises:
            RuntimeError: `start` was not called.
        """
        self._state = replace(self._started(), chosen=True)

    @one_at_a_time
    def save(self, path: str | Path, extra: object = None) -> None:
        """Writes everything that the next step depends on, memory and current frame, to a .safetensors file.

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
        state = RunState(self._started(), *self.memory.state(), self._engines, extra)
        run_state.save(path, state, self._identity())

    @one_at_a_time
    def restore(self, path: str | Path) -> object:
        """Resumes where `save` was called; whatever was remembered before is forgotten.

        A `MediaNotice` tells if this machine lacks an engine of the CPU kernels that the saved video was read by.

        Returns:
            The `extra` that was saved.

        Raises:
            RunStateError: the file is missing, damaged, of another model or other settings, or of another process's
                part of a memory.
            OSError: the store has no room.
        """
        saved = run_state.load(path, self._identity(), self._device)
        with self._another_video():
            self.memory.restore(saved.tensors, saved.memory, self._device)
            self._state = saved.frame
            self._engines.update(run_state.available_engines(saved.engines, path))
        return saved.extra

    @one_at_a_time
    def remove(self, object_id: int) -> None:
        """Stops following an object and forgets it, also as a reason to keep the current frame.

        Raises:
            ValueError: there is no such object.
            RuntimeError: `start` was not called.
        """
        state = replace(self._started())
        if object_id not in self.objects:
            raise ValueError(f"object_id must be one of {self.objects}, got {object_id}")
        row = self.objects.index(object_id)
        state.remove(object_id)
        if row < self.memory.objects:
            self.memory.remove(row)
        self._state = state

    def _geometry(self, outer: tuple[int, int]) -> Geometry:
        size, stride = self.size, self.model.stride
        if size == "auto":
            best = self.model.best_size(min(outer))
            size = None if best == min(outer) or best < stride else best
        return Geometry.of(outer, size, stride)

    def _forget(self, policy: MemoryPolicy | None) -> None:
        self._state = None
        self.memory = self._new_memory(policy, store=self.store, value_dtype=self.value_dtype)
        self._times = stage_times(STAGES, self._device)
        self._engines: dict[str, str] = {}

    @contextmanager
    def _another_video(self) -> Iterator[None]:
        """A context that begins with an empty memory; if it fails, the video before continues."""
        before = self._state, self.memory, self._times, self._engines
        self._forget(self.memory.policy)
        try:
            yield
        except BaseException:
            self._state, self.memory, self._times, self._engines = before
            raise

    def _identity(self) -> dict[str, str]:
        """What a saved state belongs to."""
        self._fingerprint = self._fingerprint or run_state.fingerprint(self.model)
        identity = {
            "model": self._fingerprint,
            "policy": repr(self.memory.policy),
            "size": str(self.size),
            "top_k": str(self.top_k),
            "value_dtype": str(self.value_dtype),
        }
        return identity if self.memory.part is None else identity | {"part": self.memory.part}

    def _started(self) -> FrameState:
        if self._state is None:
            raise RuntimeError("call start(frame, mask) first: there is no video yet")
        return self._state

    def _next(self, last: FrameState, frame: Image) -> FrameState:
        """The frame after the last one, without objects as yet; nothing changes before it is committed."""
        geometry = last.geometry
        rgb = to_rgb(frame, self._device)
        if (size := (rgb.shape[2], rgb.shape[3])) != geometry.outer:
            raise ValueError(f"frame must have the first frame's size {geometry.outer}, got {size}")
        return FrameState.without_objects(last.index + 1, geometry, self._for_network(rgb, geometry))

    def _referred(self, references: Sequence[tuple[Image, Mask]], geometry: Geometry) -> list[FrameState]:
        """References as frames before the first, each with the objects of all of them."""
        parts = []
        for picture, mask in references:
            rgb = to_rgb(picture, self._device)
            ids = to_ids(mask, (rgb.shape[2], rgb.shape[3]), self._device)
            shown = annotated_objects(ids, None)
            parts.append((fitted(rgb, geometry.outer), fitted(ids[None, None], geometry.outer)[0, 0], shown))
        objects = tuple(sorted({found for *_, shown in parts for found in shown}))
        states = []
        for index, (rgb, ids, _) in enumerate(parts, start=-len(parts)):
            state = FrameState.without_objects(index, geometry, self._for_network(rgb, geometry))
            state.annotate(ids, objects)
            state.chosen = True
            states.append(state)
        return states

    def _remembered_from(self, path: str | Path, first: FrameState) -> FrameState:
        """Takes over the memory of another video; its last frame, as the one before the first."""
        saved = run_state.load(path, self._identity(), self._device)
        last = saved.frame
        if last.frame.shape != first.frame.shape:
            seen, wanted = (tuple(state.frame.shape[2:]) for state in (last, first))
            raise ValueError(f"memory must be of frames that are {wanted} for the network, as these are, got {seen}")
        self.memory.restore(saved.tensors, saved.memory, self._device)
        self.memory.renumber(-1 - last.index)
        last.index = -1
        return last

    def _follow(self, last: FrameState, state: FrameState) -> Tensor:
        """Finds the objects of the last frame in a new one, which gets them; logits `(O + 1, *outer)`."""
        inner = self._segment(state, len(last.objects))
        logits = state.geometry.to_outer(inner[None])[0]
        state.objects = last.objects
        state.outer = torch.softmax(logits, dim=0)
        same = state.geometry.inner == state.geometry.outer
        state.inner = state.outer if same else torch.softmax(inner, dim=0)
        return logits

    def _for_network(self, rgb: Tensor, geometry: Geometry) -> Tensor:
        padded = geometry.pad(geometry.to_inner(rgb))
        return padded.to(self._dtype, memory_format=torch.channels_last)

    def _commit(self, state: FrameState, logits: Tensor | None = None) -> Segmentation:
        """Makes a frame the current one; logits are None for those of its probabilities."""
        if logits is None:
            logits = state.outer.clamp(min=PROBABILITY_FLOOR).log()
        # `max` is vectorised over pixels, `argmax` is not.
        mask = to_mask(state.outer.max(0).indices, state.objects)
        result = Segmentation(state.index, state.objects, logits, state.outer, mask, state.uncertainty())
        self._state = state
        return result

    def _memorise(self, state: FrameState) -> None:
        """Puts the current frame with its masks into memory (STM paper, section 3.1); a second time changes nothing."""
        annotated = [found in state.annotated for found in state.objects]
        if not state.objects or not self.memory.wants(state.index, annotated=any(annotated), permanent=state.chosen):
            return
        with self._times.measure("encode_memory"), cpu_engines.held(self._engines):
            masks = self._remembered(state)
            others = other_masks(masks)
            masks, others = (state.geometry.pad(planes).to(self._dtype) for planes in (masks, others))
            groups = self._groups(state, len(state.objects))
            parts = [self.model.encode_memory(state.frame, masks[few], others[few]) for few in groups]
            keys, values = (torch.cat(rows) if len(rows) > 1 else rows[0] for rows in zip(*parts, strict=True))
            self.memory.memorise(
                state.index,
                keys,
                values,
                annotated=annotated,
                permanent=state.chosen,
                presence=F.adaptive_avg_pool2d(masks.float(), (keys.shape[2], keys.shape[3]))[:, 0],
                uncertainty=None if self.memory.policy.admission is None else state.uncertainty(),
            )

    def _remembered(self, state: FrameState) -> Tensor:
        """Masks `(O, 1, *inner)` of the objects as they go into memory."""
        masks = state.inner[1:, None]
        given = [row for row, found in enumerate(state.objects) if found in state.annotated]
        if not given or not self.model.hole_size:
            return masks
        filled = masks.clone()
        filled[given] = without_holes(masks[given], other_masks(masks)[given], self.model.hole_size)
        return filled

    def _segment(self, state: FrameState, objects: int) -> Tensor:
        """Aggregated logits `(O + 1, *inner)` of a frame."""
        with self._times.measure("encode_query"):
            query = self.model.encode_query(state.frame)
        with self._times.measure("read"), cpu_engines.held(self._engines):
            readout = self.memory.read(query.key, top_k=self.top_k, backend=self.backend)
        with self._times.measure("decode"):
            groups = self._groups(state, objects)
            parts = [state.geometry.unpad(self.model.decode(readout[few], query)) for few in groups]
            return aggregate(torch.cat(parts) if len(parts) > 1 else parts[0])

    def _groups(self, state: FrameState, objects: int) -> list[slice]:
        """Slices of the objects, few enough at a time for activations to stay bounded whatever their number."""
        height, width = state.frame.shape[2:]
        few = max(1, _PIXELS_AT_ONCE // (height * width))
        return [slice(first, first + few) for first in range(0, objects, few)]


def annotated_objects(mask: Tensor, objects: Collection[int] | None) -> tuple[int, ...]:
    """The ids that a mask speaks of."""
    if objects is not None:
        if len(objects) == 0:
            raise ValueError("objects must name at least one id or be None, got none")
        if not all(1 <= found <= MAX_ID for found in objects):
            raise ValueError(f"objects must be ids from 1 to {MAX_ID}, got {tuple(objects)}")
        return tuple(sorted({int(found) for found in objects}))
    found = ids_in(mask)
    if not found:
        raise ValueError("mask must hold an object, got 0 (background) everywhere")
    return found
