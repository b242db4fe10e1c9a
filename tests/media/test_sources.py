"""What a clip may be named by: patterns, URLs, pipes, standard input."""

import io
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames

READ_TWICE = """
import sys
from stm_fast.errors import MediaError
from stm_fast.media.sources import open_frames

source = open_frames(sys.argv[1])
print(source.path, source.seekable, source.size, source.first_name, len(list(source)))
try:
    list(source)
except MediaError as error:
    print(error)
"""

COUNT_FRAMES = """
import signal, sys
from stm_fast.media.sources import open_frames

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
try:
    for frame in open_frames(sys.argv[1]):
        if frame.name == "00000":
            print("first", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def images(tmp_path, scene):
    for index, frame in enumerate(scene(11, 20, 30)):
        Image.fromarray(frame).save(tmp_path / f"frame_{index:03d}.png")
    Image.fromarray(scene(1, 8, 8)[0]).save(tmp_path / "poster.png")
    return tmp_path


@pytest.fixture
def server(tmp_path):
    """The address of a server of files; the paths that it was asked for are in `asked`."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("pattern", ["frame_%03d.png", "frame_*.png", "frame_0??.png"])
def test_patterns_name_images(images, pattern, scene):
    source = open_frames(images / pattern)
    assert (source.count, source.first_name, source.path) == (11, "frame_000", str(images / pattern))
    np.testing.assert_array_equal([frame.image for frame in source], scene(11, 20, 30))
    assert source.may_hold("frame_010")
    assert source.has_file(images / "frame_010.png")


def test_numbers_are_in_order_and_gaps_are_told(tmp_path, scene):
    frames = scene(3, 20, 30)
    for number, frame in zip((9, 10, 12), frames, strict=True):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    Image.fromarray(frames[0]).save(tmp_path / "011.png")  # %d does not write it like this
    with pytest.warns(MediaNotice, match="has 3 files, and 1 numbers between them are missing"):
        source = open_frames(tmp_path / "%d.png")
    assert [frame.name for frame in source] == ["9", "10", "12"]


@pytest.mark.parametrize("pattern", ["%05d.png", "nowhere/%03d.png"])
def test_pattern_without_files(images, pattern):
    with pytest.raises(MediaError, match=f"no file is named like .*{pattern}"):
        open_frames(images / pattern)


def test_pattern_of_something_else(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(MediaError, match=r"names a.txt, which is not an image that can be read \(\.bmp"):
        open_frames(tmp_path / "*.txt")


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("scheme", ["http", "rtsp", "tcp"])
def test_addresses_are_shown_whole(kind, scheme):
    with pytest.raises(
        MediaError, match=rf"^{scheme}://127.0.0.1:9/clip.mp4 cannot be read as video: Connection refused"
    ):
        open_frames(kind(f"{scheme}://127.0.0.1:9/clip.mp4"))


def test_video_behind_an_address(tmp_path, scene, encode, server):
    encode(tmp_path / "clip.mp4", scene(6, 32, 48))
    source = open_frames(f"{server}/clip.mp4")
    assert (source.path, source.seekable, source.count) == (f"{server}/clip.mp4", True, 6)
    assert [len(list(source)) for _ in range(2)] == [6, 6]


def test_missing_video_behind_an_address(server):
    with pytest.raises(MediaError, match=r"nothing.mp4 cannot be read as video: Server returned 404 Not Found"):
        open_frames(f"{server}/nothing.mp4")


def test_file_as_an_address(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(6, 32, 48))
    assert len(list(open_frames(path.as_uri()))) == 6


def test_named_pipe_is_opened_once(tmp_path, scene, encode):
    data = encode(tmp_path / "clip.mkv", scene(6, 32, 48)).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    source = open_frames(tmp_path / "pipe")
    assert (source.size, source.first_name, source.seekable) == ((32, 48), "00000", False)
    assert [frame.name for frame in source] == [f"{index:05d}" for index in range(6)]
    with pytest.raises(MediaError, match="pipe can be read only once: save it as a file"):
        list(source)
    writer.join()


def test_waiting_for_a_pipe_can_be_interrupted(tmp_path, scene, encode):
    data = encode(tmp_path / "clip.ts", scene(6, 32, 48), "mpeg2video").read_bytes()
    command = [sys.executable, "-c", COUNT_FRAMES, "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as reader:
        assert reader.stdin
        assert reader.stdout
        reader.stdin.write(data * 200)
        reader.stdin.flush()
        assert reader.stdout.readline() == b"first\n"
        reader.send_signal(signal.SIGINT)
        assert reader.stdout.readline() == b"interrupted\n"
        reader.stdin.close()


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(tmp_path, scene, encode, name):
    path = encode(tmp_path / "clip.mkv", scene(6, 32, 48))
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat:
        command = [sys.executable, "-c", READ_TWICE, name]
        said = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, check=True).stdout
    told = "standard input" if name == "-" else name
    assert said.splitlines() == [
        f"{told} False (32, 48) 00000 6",
        f"{told} can be read only once: save it as a file to read it again",
    ]


def test_standard_input_that_is_a_file(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(6, 32, 48))
    with path.open("rb") as file:
        command = [sys.executable, "-c", READ_TWICE, "-"]
        said = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True).stdout
    assert said == "standard input True (32, 48) 00000 6\n"


def test_pipe_of_an_mp4_whose_index_comes_last(tmp_path, encode, monkeypatch):
    noise = list(np.random.default_rng(0).integers(0, 255, (20, 240, 320, 3)).astype(np.uint8))

    class Input:
        buffer = io.BytesIO(encode(tmp_path / "clip.mp4", noise, "mjpeg", "yuvj420p").read_bytes())

        def isatty(self):
            return False

        def fileno(self):
            raise OSError

    monkeypatch.setattr(sys, "stdin", Input())
    with pytest.raises(MediaError, match=r"standard input .*mp4 files whose index comes last must be given as files"):
        open_frames("-")


def test_standard_input_that_is_no_video(monkeypatch):
    class Input:
        buffer = io.BytesIO(b"this is not a video at all" * 50)

        def isatty(self):
            return False

        def fileno(self):
            raise OSError

    monkeypatch.setattr(sys, "stdin", Input())
    with pytest.raises(
        MediaError, match=r"standard input cannot be read as video: .* \(a pipe is read from front to end"
    ):
        open_frames("-")


def test_terminal_is_no_video(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(MediaError, match="standard input is a terminal: send a video into it"):
        open_frames("-")
