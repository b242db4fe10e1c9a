"""Events that all tabs hear."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

Event = dict[str, Any]
Queue = asyncio.Queue[Event | None]
MAX_WAITING = 1000
"""Maximum number of events that wait for a slow tab; more are left out, and the tab is told to fetch the project
and all masks."""


class Events:
    """Hands events, which come from any thread, to all that listen."""

    def __init__(self) -> None:
        self._lock = RLock()  # a signal may close it while its thread has the lock
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Queue]] = []

    def publish(self, event: Event) -> None:
        """Hand an event to all that listen now."""
        with self._lock:
            for loop, queue in self._listeners:
                loop.call_soon_threadsafe(_put, queue, event)

    def close(self) -> None:
        """Tell all that listen now that there is nothing more to hear."""
        with self._lock:
            for loop, queue in self._listeners:
                loop.call_soon_threadsafe(queue.put_nowait, None)

    @contextmanager
    def listening(self) -> Iterator[Queue]:
        """Yield a queue that events of the block's time are put into, and None at the end; called in an event loop."""
        listener = asyncio.get_running_loop(), Queue()
        with self._lock:
            self._listeners.append(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners.remove(listener)


def _put(queue: Queue, event: Event) -> None:
    if queue.qsize() < MAX_WAITING:
        queue.put_nowait(event)
    elif queue.qsize() == MAX_WAITING:
        revision = event.get("revision")
        queue.put_nowait({"event": "project", "revision": revision})
        queue.put_nowait({"event": "masks", "from": 0, "to": None, "revision": revision})
