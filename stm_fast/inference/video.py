"""One video under way: its memory, its current frame, and the time spent on it."""

from torch import Tensor

from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.network import FrameNetwork
from stm_fast.inference.timing import stage_times
from stm_fast.memory.bank import MemoryBank
from stm_fast.ops import cpu_engines

STAGES = ("encode_query", "read", "decode", "encode_memory")


class Video:
    """What belongs to one video.

    Args:
        memory: what is remembered of it; empty.
        network: that segments it.

    Attributes:
        memory: the memory.
        times: seconds spent in each stage.
        engines: of the CPU kernels that read the memory, by kind of read.
        current: the current frame; None before the first.
    """

    def __init__(self, memory: MemoryBank, network: FrameNetwork) -> None:
        self.memory = memory
        self.times = stage_times(STAGES, network.device)
        self.engines: dict[str, str] = {}
        self.current: FrameState | None = None
        self._network = network

    def memorise(self, frame: FrameState) -> None:
        """Put a frame with its masks into memory, if the policy wants it; a second time changes nothing."""
        annotated = [object_id in frame.annotated for object_id in frame.objects]
        if not frame.objects or not self.memory.wants(frame.index, annotated=any(annotated), permanent=frame.chosen):
            return
        with self.times.measure("encode_memory"), cpu_engines.held(self.engines):
            keys, values, presence = self._network.encode_memory(frame)
            self.memory.memorise(
                frame.index,
                keys,
                values,
                annotated=annotated,
                permanent=frame.chosen,
                presence=presence,
                uncertainty=None if self.memory.policy.admission is None else frame.uncertainty(),
            )

    def follow(self, last: FrameState, frame: FrameState, *, top_k: int | None, backend: str) -> Tensor:
        """Find the objects of a frame in the one after it, which takes them.

        Args:
            last: the frame before; all its objects are in memory.
            frame: without objects.
            top_k: see `Segmenter`.
            backend: likewise.

        Returns:
            Logits of background and objects `(O + 1, *outer)`.
        """
        with self.times.measure("encode_query"):
            query = self._network.encode_query(frame)
        with self.times.measure("read"), cpu_engines.held(self.engines):
            readout = self.memory.read(query.key, top_k=top_k, backend=backend)
        with self.times.measure("decode"), cpu_engines.held(self.engines):
            logits = self._network.decode(frame, query, readout, last)
        return frame.follow(last.objects, logits)
