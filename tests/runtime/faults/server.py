"""Runs labelling jobs in forked children, one for each line on standard input; answers with one line each.

Everything is imported once, and the parser of the command made once, so that hundreds of runs that end badly take
seconds. A line is a JSON object:
``words`` (a command line), ``mode`` and ``nth``, ``errno``, ``which`` (see ``shim.c``), ``folder`` (below which calls
count), ``seconds`` (kill the run then; null: let it end), ``texts`` and ``begun`` (files for
what it says and for the units it begins).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path

import wsis._host  # noqa: F401

from wsis import cli, options
from wsis.runtime import label_units, local_engine
from wsis.steps import label


def main() -> None:
    shim = ctypes.CDLL(None)
    shim.wsis_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int)
    shim.wsis_counted.restype = ctypes.c_long
    parser = options.make_parser(label.Config, "wsis label")
    options.make_parser = lambda *_, **__: parser
    for line in sys.stdin:
        order = json.loads(line)
        texts = Path(order["texts"])
        child = os.fork()
        if child == 0:
            _child(shim, order, texts)
        killer = None
        if order.get("seconds") is not None:
            killer = threading.Timer(order["seconds"], os.kill, (child, signal.SIGKILL))
            killer.start()
        _, status = os.waitpid(child, 0)
        if killer is not None:
            killer.cancel()
            killer.join()
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "text": texts.read_text()}), flush=True)


def _child(shim: ctypes.CDLL, order: dict, texts: Path) -> None:
    handle = os.open(texts, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    begun = os.open(order["begun"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    unit_of = label_units.LabelUnits._unit

    def counted(self, work, *args):
        os.write(begun, f"{work.unit.number}\n".encode())
        return unit_of(self, work, *args)

    label_units.LabelUnits._unit = counted
    local_engine._MIN_FREE = 0
    mode = (order.get("mode", 0), order.get("nth", 0), order.get("errno", 0), order.get("which", 2))
    shim.wsis_arm(order["folder"].encode(), *mode)
    code = cli.run_command(order["words"])
    if mode[0] == 1:
        print(f"counted {shim.wsis_counted()}")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
