"""Events, and the jobs that they tell of."""

import asyncio
import json
from threading import Event, Thread

import pytest

from stm_fast.app import answers, events
from stm_fast.app.answers import Answers
from stm_fast.app.events import Events
from stm_fast.app.jobs import Jobs
from stm_fast.app.refusal import Refusal
from stm_fast.media.notices import notice


def heard(opened, work, until):
    """Return the events of a stream from its beginning to the first that `until` accepts; work runs in a thread."""

    async def listen():
        found = []
        stream = Answers(opened)._stream()
        async for text in stream:
            assert text.endswith("\n\n")
            found.append(json.loads(text.removeprefix("data: ")) if text.startswith("data: ") else text)
            if len(found) == 1:
                Thread(target=work).start()
            if until(found[-1]):
                await stream.aclose()
                return found
        return found

    return asyncio.run(asyncio.wait_for(listen(), 60))


def test_a_tab_hears_what_happens(tab, truth):
    tab.draw(0, truth[0])
    revision = tab.revision

    def work():
        tab.send("PUT", "/api/objects/1", json={"name": "dog"})
        tab.follow()
        tab.draw(4, truth[3])
        tab.follow()

    def ended(event):
        return event["event"] == "job" and event["job"]["state"] == "done" and event["job"]["done"] == 2

    found = heard(tab.opened, work, ended)
    assert found[0] == {"event": "project", "revision": revision}
    assert found[1] == {"event": "project", "revision": revision + 1}
    assert [each["frame"] for each in found if each["event"] == "frame"] == [0, 1, 2, 3, 4, 5, 4, 5]
    first = next(each for each in found if each["event"] == "frame")
    assert first["areas"] == {"1": 0.125, "2": 0.125}
    assert set(first["uncertainty"]) == {"1", "2"}
    assert [(each["from"], each["to"]) for each in found if each["event"] == "masks"] == [(4, 5), (4, 6)]
    states = [each["job"]["state"] for each in found if each["event"] == "job"]
    assert states[0] == "running"
    assert states.count("done") == 2
    assert all(each["revision"] in range(revision, revision + 3) for each in found)


def test_notices_reach_the_tabs(tab, truth):
    tab.draw(0, truth[0])
    tab.follow(count=2)

    def export():
        tab.send("POST", "/api/export", json={"format": "binary-png"})

    found = heard(tab.opened, export, lambda event: event["event"] == "notice")
    assert "the frames so far are exported" in found[-1]["text"]


def test_a_correction_of_one_object_says_nothing_of_the_others(tab, truth):
    tab.draw(0, truth[0])
    tab.draw(2, truth[2], 1)
    found = heard(tab.opened, tab.follow, lambda event: event["event"] == "job" and event["job"]["state"] == "done")
    assert not [event for event in found if event["event"] == "notice"]


def test_a_quiet_stream_is_kept_open(tab, monkeypatch):
    monkeypatch.setattr(answers, "_KEEP_ALIVE", 0.01)
    assert heard(tab.opened, lambda: None, lambda event: event == ": \n\n")[-1] == ": \n\n"


def test_a_tab_that_is_closed_leaves_nothing_waiting(tab):
    async def hang_up():
        stream = Answers(tab.opened)._stream()
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert not asyncio.run(hang_up())


def test_a_slow_tab_is_told_to_look_again(monkeypatch):
    monkeypatch.setattr(events, "MAX_WAITING", 3)

    async def listen():
        source = Events()
        with source.listening() as queue:
            for number in range(10):
                source.publish({"event": "frame", "frame": number, "revision": 7})
            await asyncio.sleep(0)
            return [queue.get_nowait() for _ in range(queue.qsize())]

    found = asyncio.run(listen())
    assert [each["frame"] for each in found[:3]] == [0, 1, 2]
    assert found[3:] == [
        {"event": "project", "revision": 7},
        {"event": "masks", "from": 0, "to": None, "revision": 7},
    ]


class TestJobs:
    def test_one_at_a_time(self):
        go_on, told = Event(), []
        jobs = Jobs(lambda job: told.append(job.state), told.append)
        job = jobs.begin("export", lambda job: go_on.wait(30))
        with pytest.raises(Refusal, match=r"another job is running \(export\)"):
            jobs.begin("follow", lambda job: None)
        assert jobs.running is job
        go_on.set()
        jobs.stop(wait=True)
        assert jobs.running is None
        assert job.state == "done"
        assert told[0] == "running"
        assert told[-1] == "done"

    def test_a_bug_is_a_sentence_too(self):
        def fail(job):
            raise KeyError("lost")

        jobs = Jobs(lambda job: None, print)
        job = jobs.begin("follow", fail)
        jobs.stop(wait=True)
        assert (job.state, job.error) == ("failed", "KeyError: 'lost'")

    def test_notices_of_a_job_are_heard(self):
        told = []
        jobs = Jobs(lambda job: None, told.append)
        jobs.begin("export", lambda job: notice("this was assumed"))
        jobs.stop(wait=True)
        assert told == ["this was assumed"]
