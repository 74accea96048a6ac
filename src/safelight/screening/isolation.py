"""Isolation of a filter in its own process, so that one that hangs or crashes affects only one call.

The two processes communicate over pipes. A message is a length, that many bytes of JSON, and then the pixels
of the images that the JSON announces; nothing is pickled. The worker ends when the other end of its pipe is
closed, so it never outlives the program that started it.
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
from safelight.screening.answers import FilterAnswer, validated_answers
from safelight.types import Box, Concept, Finding, HashMatch, Span, to_json_value

# The longest time that a call waits for earlier calls, and that a worker may take to load its model.
_QUEUE_TIMEOUT_S, _LOAD_TIMEOUT_S = 60.0, 300.0
# The time that a process which closed its pipes may take to end, so that its exit code is known.
_EXIT_TIMEOUT_S = 5.0
# Neither side sends longer messages; a longer announced length means that the other side is broken.
_MAX_MESSAGE_BYTES = 1 << 28

_SIGNALS = {each.value: each.name for each in signal.Signals}
# The buffer size of pipes in bytes, where the system supports setting it; large buffers speed up images.
_PIPE = 1 << 20
_LENGTH = struct.Struct(">Q")
_EVIDENCE = {kind.__name__.lower(): kind for kind in (Span, Box, Concept, HashMatch)}
_BOOT = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {__name__} import serve; serve()"


class IsolatedFilter:
    """The component ``component`` of ``kind``, built with ``options`` and run in a worker process.

    Calls run one after the other. A worker that is late, crashes or is killed is restarted for the next call.
    Filters are looked up by name in the registry of built-in filters and those of installed packages.

    Raises ``FilterError`` for a filter that cannot be built.
    """

    # The time that a call may take in addition to its own timeout.
    overhead_s = _QUEUE_TIMEOUT_S + _LOAD_TIMEOUT_S

    def __init__(self, kind: str, component: str, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._spec = {"kind": kind, "component": component, "options": {**options, "name": name}}
        self._call_lock = threading.Lock()
        # In a list, because the finalizer that stops the worker must not refer to the filter itself.
        self._workers: list[_Worker] = []
        weakref.finalize(self, _stop, self._workers)
        about = self._ready().about
        self.version: str = about["version"]
        self.labels = None if about["labels"] is None else frozenset(about["labels"])

    def find(self, items: Sequence[Any]) -> list[FilterAnswer]:
        """Return the filter's answers, without a time limit."""
        return self.find_within(items, None)

    def find_within(self, items: Sequence[Any], timeout_s: float | None) -> list[FilterAnswer]:
        """Return the filter's answers for prompts, RGB images, or pairs of both.

        Raises ``TimeoutError`` if there is no answer within ``timeout_s``, and ``FilterError`` if the filter
        fails. A worker that is late or has died is removed.
        """
        if not self._call_lock.acquire(timeout=_QUEUE_TIMEOUT_S):
            raise TimeoutError(f"its process was busy for {_QUEUE_TIMEOUT_S:g} s")
        try:
            worker = self._ready()
            with _time_limit(worker, timeout_s):
                reply = worker.ask(items)
        finally:
            self._call_lock.release()
        if "failed" in reply:
            raise FilterError(reply["failed"])
        return [_answer(each) for each in reply["answers"]]

    def _ready(self) -> _Worker:
        """Return the worker, which is started and loaded if necessary."""
        if self._workers and not self._workers[0].alive:
            _stop(self._workers)
        if not self._workers:
            self._workers.append(_Worker(self._spec))
        worker = self._workers[0]
        if not worker.about:
            with _time_limit(worker, _LOAD_TIMEOUT_S):
                worker.load()
        return worker


class _Worker:
    """A worker process, as seen by the process that started it."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        command = [sys.executable, "-c", _BOOT, json.dumps(path)]
        # In its own session, so that processes that the filter starts can be killed with it.
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
        about = self._exchange(self._spec)
        if "failed" in about:
            raise FilterError(f"it cannot be built in its own process: {about['failed']}")
        self.about = about

    def ask(self, items: Sequence[Any]) -> dict[str, Any]:
        encoded = [_encode(item) for item in items]
        return self._exchange(
            {"items": [message for message, _ in encoded]}, [image for _, image in encoded if image]
        )

    def _exchange(self, message: Mapping[str, Any], images: Iterable[Image.Image] = ()) -> dict[str, Any]:
        """Send a message and return the reply. Raises ``EOFError`` or ``OSError`` if the process is gone."""
        if self._process.stdin is None or self._process.stdout is None:
            raise EOFError
        _send(self._process.stdin, message, images)
        reply: dict[str, Any] = _receive(self._process.stdout)
        return reply

    def kill(self) -> None:
        """Kill the process and those that it started; a thread that waits for a reply wakes up.

        It may be called from any thread.
        """
        self._killed = True
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def stop(self, grace_s: float = 0.0) -> str:
        """Kill the process after ``grace_s``, close its pipes, and return how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # buffered data cannot be flushed any more
                if pipe:
                    pipe.close()
        code = self._process.wait()
        return f"exit code {code}" if code >= 0 else _SIGNALS.get(-code, f"signal {-code}")


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


@contextmanager
def _time_limit(worker: _Worker, timeout_s: float | None) -> Iterator[None]:
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
        how = worker.stop(0.0 if late.is_set() else _EXIT_TIMEOUT_S)
        if late.is_set():
            raise TimeoutError(f"no answer within {timeout_s:g} s, and its process was killed") from error
        raise FilterError(f"its process died ({how})") from error
    finally:
        timer.cancel()
        timer.join()


def serve() -> None:
    """Run a worker: build the filter of the first message, then answer until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _message_pipes()
    messages: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive_messages, args=(requests, messages), daemon=True).start()
    spec = messages.get()
    try:
        each = registry.build(spec["kind"], spec["component"], **spec["options"])
        labels = getattr(each, "labels", None)
        about = {"version": each.version, "labels": None if labels is None else sorted(labels)}
    except Exception as error:  # noqa: BLE001 - sent to the parent process
        return _send(answers, {"failed": _describe(error)})
    _send(answers, about)
    while True:
        _send(answers, _reply(each, messages.get()))


def _message_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes from and to the parent, and redirect stdout to stderr so that prints break nothing."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.dup2(2, 1)
    return requests, answers


def _receive_messages(requests: BinaryIO, messages: SimpleQueue[Any]) -> None:
    """Queue incoming messages, and end the process when the other end of the pipe is closed."""
    try:
        while True:
            message = _receive(requests)
            if "items" in message:
                message = [_decode(item, requests) for item in message["items"]]
            messages.put(message)
    finally:
        os._exit(0)


def _reply(each: Any, items: list[Any]) -> dict[str, Any]:
    try:
        answers = validated_answers(each.find(items), len(items), {})
    except Exception as error:  # noqa: BLE001 - sent to the parent process
        return {"failed": _describe(error)}
    return {
        "answers": [
            {"failed": str(answer)}
            if isinstance(answer, FilterError)
            else [to_json_value(one) for one in answer]
            for answer in answers
        ]
    }


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _encode(item: Any) -> tuple[dict[str, Any], Image.Image | None]:
    """Return the JSON of a prompt, an image, or a pair of them, and the image whose pixels follow it."""
    if isinstance(item, str):
        return {"prompt": item}, None
    if isinstance(item, tuple):
        prompt, image = item
        message, image = _encode(image)
        return {**message, "prompt": prompt}, image
    image = item if item.mode == "RGB" else item.convert("RGB")
    info = {key: value for key, value in image.info.items() if isinstance(value, str | int)}
    return {"size": image.size, "info": info}, image


def _decode(message: Mapping[str, Any], pipe: BinaryIO) -> Any:
    if "size" not in message:
        return message["prompt"]
    width, height = message["size"]
    image = Image.frombytes("RGB", (width, height), _read_exactly(pipe, width * height * 3))
    image.info = message["info"]
    return (message["prompt"], image) if "prompt" in message else image


def _answer(message: Any) -> FilterAnswer:
    if isinstance(message, dict):
        return FilterError(message["failed"])
    return [
        Finding(each["label"], each["score"], each["filter"], _evidence(each["evidence"])) for each in message
    ]


def _evidence(message: dict[str, Any] | None) -> Any:
    if message is None:
        return None
    return _EVIDENCE[message["type"]](**{name: value for name, value in message.items() if name != "type"})


def _send(pipe: IO[bytes], message: Mapping[str, Any], images: Iterable[Image.Image] = ()) -> None:
    text = json.dumps(message, default=_plain_value).encode("ascii")
    pipe.write(_LENGTH.pack(len(text)) + text)
    for image in images:
        pipe.write(image.tobytes())
    pipe.flush()


def _plain_value(value: Any) -> str | float:
    """Return a path in the options or a NumPy number in an answer as a JSON value."""
    return os.fspath(value) if isinstance(value, os.PathLike) else float(value)


def _receive(pipe: IO[bytes]) -> Any:
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    if length > _MAX_MESSAGE_BYTES:
        raise OSError("a message that is too long")
    return json.loads(_read_exactly(pipe, length))


def _read_exactly(pipe: IO[bytes], length: int) -> bytes:
    """Read exactly ``length`` bytes. Raises ``EOFError`` if the pipe is closed before."""
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
