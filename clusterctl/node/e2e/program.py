"""Runs programs under the interpreter that will train, one after another in one process.

This text comes first on that interpreter's stdin; then a line of JSON for each program, whose
``main(order, tell)`` is called. What is told, and what ``main`` returns, goes as a line of JSON to what was
stdout; whatever libraries print goes to stderr. The end of stdin ends the process, whatever it is doing.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback

MARK = "@@program "


def serve():
    told = os.dup(1)
    os.dup2(2, 1)
    programs = queue.SimpleQueue()  # type: ignore[var-annotated]
    threading.Thread(target=_listen, args=(programs,), daemon=True).start()

    def tell(message):
        os.write(told, (MARK + json.dumps(message) + "\n").encode("utf-8", "replace"))

    while True:
        order = programs.get()
        # The kernel ends it then, whatever its threads hang in; 0 is never.
        signal.setitimer(signal.ITIMER_REAL, order.get("ends_after", 0))
        scope = {"__name__": order["name"]}
        exec(compile(order["program"], order["name"] + ".py", "exec"), scope)
        tell(scope["main"](order, tell))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _listen(programs):
    for line in sys.stdin.buffer:
        programs.put(json.loads(line.decode("utf-8")))
    os._exit(0)


if __name__ == "__main__":
    try:
        serve()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the other thread sits in a read that nothing ends
