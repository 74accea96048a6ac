"""A filter in a process of its own, which can be killed: one that hangs, crashes or eats memory costs a call.

The two processes talk over pipes. A message is a length, that many bytes of JSON, and then the pixels of the
images that the JSON announces; nothing is pickled. The worker ends when the other end of its pipe is closed,
so it never outlives the program that started it.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import IO, Any, BinaryIO

from PIL import Image

from safelight import registry
from safelight.errors import FilterError
from safelight.screening.answers import FilterAnswer, checked_answers
from safelight.types import Box, Concept, Finding, HashMatch, Span, plain

# How long a call waits for the calls before it, and a worker may take to load its model.
_TURN_S, _LOAD_S = 60.0, 300.0
# A process that closed its pipes needs a moment to end, and then says why.
_DYING_S = 5.0
# Sent by neither side: whoever announces more is broken.
_LONGEST_MESSAGE = 1 << 28

_SIGNALS = {each.value: each.name for each in signal.Signals}
# Bytes that a pipe holds, where the system lets it be set: images go through it faster.
_PIPE = 1 << 20
_LENGTH = struct.Struct(">Q")
_EVIDENCE = {kind.__name__.lower(): kind for kind in (Span, Box, Concept, HashMatch)}
_BOOT = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {__name__} import serve; serve()"


class IsolatedFilter:
    """The component ``component`` of ``kind``, built with ``options`` and run in a worker process.

    Calls take turns. A worker that is late, crashes or is killed is started again for the next call. Filters
    are found by name in the registry, which has the built-in ones and those that installed packages bring.

    Raises ``FilterError`` for a filter that cannot be built.
    """

    # What a call may take beside its own time.
    slack_s = _TURN_S + _LOAD_S

    def __init__(self, kind: str, component: str, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._spec = {"kind": kind, "component": component, "options": {**options, "name": name}}
        self._turn = threading.Lock()
        # Held in a list, since what ends the worker must not hold the filter itself.
        self._workers: list[_Worker] = []
        weakref.finalize(self, _stop, self._workers)
        about = self._ready().about
        self.version: str = about["version"]
        self.labels = None if about["labels"] is None else frozenset(about["labels"])

    def find(self, items: Sequence[Any]) -> list[FilterAnswer]:
        """As the filter's own, and without a limit of time."""
        return self.find_within(items, None)

    def find_within(self, items: Sequence[Any], timeout_s: float | None) -> list[FilterAnswer]:
        """What the filter says of prompts, RGB images, or pairs of both.

        Raises ``TimeoutError`` if it has not answered after ``timeout_s``, and ``FilterError`` if it fails;
        a worker that is late or died is gone then.
        """
        if not self._turn.acquire(timeout=_TURN_S):
            raise TimeoutError(f"its process was busy for {_TURN_S:g} s")
        try:
            worker = self._ready()
            with _limited(worker, timeout_s):
                reply = worker.ask(items)
        finally:
            self._turn.release()
        if "failed" in reply:
            raise FilterError(reply["failed"])
        return [_answer(each) for each in reply["answers"]]

    def _ready(self) -> _Worker:
        """The worker, started and loaded if need be."""
        if self._workers and not self._workers[0].alive:
            _stop(self._workers)
        if not self._workers:
            self._workers.append(_Worker(self._spec))
        worker = self._workers[0]
        if not worker.about:
            with _limited(worker, _LOAD_S):
                worker.load()
        return worker


class _Worker:
    """One process, from this side."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        command = [sys.executable, "-c", _BOOT, json.dumps(path)]
        # A session of its own, so that what the filter starts can be killed with it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE, start_new_session=True
        )
        self._spec = spec
        self._killed = False
        self.about: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.poll() is None

    def load(self) -> None:
        """Build the filter. Raises ``FilterError`` if that fails."""
        about = self._say(self._spec)
        if "failed" in about:
            raise FilterError(f"it cannot be built in a process of its own: {about['failed']}")
        self.about = about

    def ask(self, items: Sequence[Any]) -> dict[str, Any]:
        encoded = [_encoded(item) for item in items]
        return self._say({"items": [said for said, _ in encoded]}, [image for _, image in encoded if image])

    def _say(self, message: Mapping[str, Any], images: Iterable[Image.Image] = ()) -> dict[str, Any]:
        """Send a message and return the reply. Raises ``EOFError`` or ``OSError`` if the process is gone."""
        if self._process.stdin is None or self._process.stdout is None:
            raise EOFError
        _send(self._process.stdin, message, images)
        reply: dict[str, Any] = _receive(self._process.stdout)
        return reply

    def kill(self) -> None:
        """End the process and those that it started, from any thread; whoever waits for a reply wakes up."""
        self._killed = True
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def stop(self, grace_s: float = 0.0) -> str:
        """Leave nothing of the process, and return how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # of what it was still to be told
                if pipe:
                    pipe.close()
        code = self._process.wait()
        return f"exit code {code}" if code >= 0 else _SIGNALS.get(-code, f"signal {-code}")


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


@contextmanager
def _limited(worker: _Worker, timeout_s: float | None) -> Iterator[None]:
    """Kill the worker after ``timeout_s``. Raises ``TimeoutError`` then, and ``FilterError`` if it dies."""
    late = threading.Event()

    def end() -> None:
        late.set()
        worker.kill()

    timer = threading.Timer(threading.TIMEOUT_MAX if timeout_s is None else timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except FilterError:
        worker.stop()
        raise
    except Exception as error:
        how = worker.stop(0.0 if late.is_set() else _DYING_S)
        if late.is_set():
            raise TimeoutError(f"no answer within {timeout_s:g} s, and its process was killed") from error
        raise FilterError(f"its process died ({how})") from error
    finally:
        timer.cancel()
        timer.join()


def serve() -> None:
    """The life of a worker: it builds the filter that it is told first, then answers until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said, answers = _channels()
    messages: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(said, messages), daemon=True).start()
    spec = messages.get()
    try:
        each = registry.build(spec["kind"], spec["component"], **spec["options"])
        labels = getattr(each, "labels", None)
        about = {"version": each.version, "labels": None if labels is None else sorted(labels)}
    except Exception as error:  # noqa: BLE001 - told to whoever started this process
        return _send(answers, {"failed": _sentence(error)})
    _send(answers, about)
    while True:
        _send(answers, _reply(each, messages.get()))


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of this process, which then prints where errors go, so that no print breaks a message."""
    said, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return said, answers


def _listen(said: BinaryIO, messages: SimpleQueue[Any]) -> None:
    """Ends the process, whatever it is busy with, when the other end of the pipe is closed."""
    try:
        while True:
            message = _receive(said)
            if "items" in message:
                message = [_decoded(item, said) for item in message["items"]]
            messages.put(message)
    finally:
        os._exit(0)


def _reply(each: Any, items: list[Any]) -> dict[str, Any]:
    try:
        answers = checked_answers(each.find(items), len(items), {})
    except Exception as error:  # noqa: BLE001 - told to whoever asks
        return {"failed": _sentence(error)}
    return {
        "answers": [
            {"failed": str(answer)} if isinstance(answer, FilterError) else [plain(one) for one in answer]
            for answer in answers
        ]
    }


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _encoded(item: Any) -> tuple[dict[str, Any], Image.Image | None]:
    """A prompt, an image, or a pair of them, and the image whose pixels follow."""
    if isinstance(item, str):
        return {"prompt": item}, None
    if isinstance(item, tuple):
        prompt, image = item
        said, image = _encoded(image)
        return {**said, "prompt": prompt}, image
    image = item if item.mode == "RGB" else item.convert("RGB")
    info = {key: value for key, value in image.info.items() if isinstance(value, str | int)}
    return {"size": image.size, "info": info}, image


def _decoded(said: Mapping[str, Any], pipe: BinaryIO) -> Any:
    if "size" not in said:
        return said["prompt"]
    width, height = said["size"]
    image = Image.frombytes("RGB", (width, height), _exactly(pipe, width * height * 3))
    image.info = said["info"]
    return (said["prompt"], image) if "prompt" in said else image


def _answer(said: Any) -> FilterAnswer:
    if isinstance(said, dict):
        return FilterError(said["failed"])
    return [
        Finding(each["label"], each["score"], each["filter"], _evidence(each["evidence"])) for each in said
    ]


def _evidence(said: dict[str, Any] | None) -> Any:
    if said is None:
        return None
    return _EVIDENCE[said["type"]](**{name: value for name, value in said.items() if name != "type"})


def _send(pipe: IO[bytes], message: Mapping[str, Any], images: Iterable[Image.Image] = ()) -> None:
    text = json.dumps(message, default=_plain_value).encode("ascii")
    pipe.write(_LENGTH.pack(len(text)) + text)
    for image in images:
        pipe.write(image.tobytes())
    pipe.flush()


def _plain_value(value: Any) -> str | float:
    """A path of the options, or a number of NumPy in an answer, as JSON has it."""
    return os.fspath(value) if isinstance(value, os.PathLike) else float(value)


def _receive(pipe: IO[bytes]) -> Any:
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    if length > _LONGEST_MESSAGE:
        raise OSError("a message that is too long")
    return json.loads(_exactly(pipe, length))


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    """Raises ``EOFError`` if there are fewer bytes to come."""
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
