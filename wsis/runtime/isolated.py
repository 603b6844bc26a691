"""Decoding in processes of their own, so that a decoder that crashes or hangs costs one image and not the run.

The processes are forked from a warden, which was itself forked before threads and pools were at work, shares the data
set's memory and does nothing but fork. A process that dies, or does not answer in time, is replaced and its picture
tried once more; the second time the picture is recorded as ``E_POISON``.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import queue
import resource
import signal
import socket
import struct
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from wsis.errors import Code, ConfigError, DataFault, SystemFault, is_system_error, system_fault

__all__ = ["IsolatedReader"]

_TRIES = 2
_HEAD = struct.Struct("<cQQQ")
_QUESTION = struct.Struct("<q")
_PID = struct.Struct("<q")
_DEATH_SIGNAL = 1
_ERRORS: dict[str, type[Exception]] = {
    "data": DataFault,
    "system": SystemFault,
    "config": ConfigError,
    "program": RuntimeError,
}


class IsolatedReader:
    """``load(index)`` in another process.

    Args:
        load: index to ``[H, W, 3]`` uint8; may raise :class:`DataFault` and :class:`SystemFault`.
        name: index to the record's id, for the fault.
        processes: most at a time; as many threads may call.
        timeout: seconds that one try may take.

    Raises:
        OSError: no process could be forked.
    """

    def __init__(
        self, load: Callable[[int], np.ndarray], name: Callable[[int], str], processes: int, timeout: float
    ) -> None:
        self.name, self.timeout = name, timeout
        self._warden = _start_warden(load)
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(max(1, processes)):
            self._idle.put(None)
        self._close = weakref.finalize(self, _close, self._warden, self._idle)

    def __call__(self, index: int) -> np.ndarray:
        """The picture.

        Raises:
            DataFault: of ``load``; ``E_POISON`` if its process died or took too long twice.
            SystemFault: of ``load``; or no process can be started any more.
        """
        process = self._idle.get()
        reasons = []
        try:
            for _ in range(_TRIES):
                process = process or _Process(self._warden, self.timeout)
                try:
                    image = process.ask(index)
                except TimeoutError:
                    reasons.append(f"did not end within {self.timeout:g} s")
                except (EOFError, ConnectionError):
                    reasons.append("crashed")
                if process.answered:
                    return image
                process.kill()
                process = None
        finally:
            if process is not None and not process.answered:
                process.kill()
                process = None
            self._idle.put(process)
        told = " and ".join(dict.fromkeys(reasons))
        raise DataFault(Code.E_POISON, self.name(index), "read", f"the process that decoded it {told}, {_TRIES} times")

    def close(self) -> None:
        """End the processes; none may be at work."""
        self._close()


class _Process:
    """One decoding process, seen from the run.

    Attributes:
        answered: whether nothing is left to be read from it.
    """

    def __init__(self, warden: socket.socket, timeout: float) -> None:
        self.answered = True
        try:
            self._socket, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(warden, [b"f"], [theirs.fileno()])
            self._socket.settimeout(timeout)
            (self._pid,) = _PID.unpack(_receive(self._socket, _PID.size))
        except (OSError, EOFError) as error:
            raise SystemFault(f"starting a process that decodes: {error}; the same command resumes") from error

    def ask(self, index: int) -> np.ndarray:
        self.answered = False
        self._socket.sendall(_QUESTION.pack(index))
        kind, *shape = _HEAD.unpack(_receive(self._socket, _HEAD.size))
        if kind == b"i":
            image = np.empty(shape, dtype=np.uint8)
            _receive_into(self._socket, memoryview(image).cast("B"))
            self.answered = True
            return image
        name, *told = json.loads(_receive(self._socket, shape[0]))
        self.answered = True
        raise _ERRORS[name](*told)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


def _close(warden: socket.socket, idle: queue.LifoQueue[_Process | None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            process = idle.get_nowait()
            if process is not None:
                process.close()
    warden.close()


def _start_warden(load: Callable[[int], np.ndarray]) -> socket.socket:
    """Fork it; the socket over which it is asked for processes."""
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        theirs.close()
        return ours
    _guarded(lambda: _warden(theirs, load))


def _guarded(body: Callable[[], None]) -> NoReturn:
    """Run the body of a child and end without what the parent has registered for its own end."""
    status = 1
    try:
        body()
        status = 0
    finally:
        os._exit(status)


def _warden(control: socket.socket, load: Callable[[int], np.ndarray]) -> None:
    """Fork a process for every socket that comes; end when the run ends."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    keep = control.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 20)
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        with socket.socket(fileno=handles[0]) as theirs:
            if os.fork() == 0:
                control.close()
                _die_with_parent()
                _guarded(lambda: _serve(theirs, load))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _serve(line: socket.socket, load: Callable[[int], np.ndarray]) -> None:
    """Answer questions until nobody asks any more."""
    line.sendall(_PID.pack(os.getpid()))
    while True:
        try:
            (index,) = _QUESTION.unpack(_receive(line, _QUESTION.size))
        except EOFError:
            return
        try:
            image = np.ascontiguousarray(load(index))
        except DataFault as fault:
            _tell(line, "data", fault.code.value, fault.subject, fault.stage, fault.text)
        except SystemFault as fault:
            _tell(line, "system", str(fault))
        except ConfigError as error:
            _tell(line, "config", str(error))
        except Exception as error:  # noqa: BLE001
            if is_system_error(error):
                _tell(line, "system", str(system_fault(error, "reading image", str(index))))
            else:
                _tell(line, "program", f"image {index}:\n{traceback.format_exc()}")
        else:
            line.sendall(_HEAD.pack(b"i", *image.shape))
            line.sendall(memoryview(image).cast("B"))


def _tell(line: socket.socket, *error: str) -> None:
    text = json.dumps(error).encode()
    line.sendall(_HEAD.pack(b"e", len(text), 0, 0) + text)


def _receive(line: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    _receive_into(line, memoryview(data))
    return bytes(data)


def _receive_into(line: socket.socket, target: memoryview) -> None:
    while len(target):
        got = line.recv_into(target)
        if not got:
            raise EOFError("the other side has gone")
        target = target[got:]
