"""The text that faulthandler writes of all threads, as the fields of ``ThreadStack`` and ``Frame``."""

import re

_MOST_THREADS = 64
_MOST_FRAMES = 100
_LONGEST = 500

_THREAD = re.compile(
    r"(?:Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):"
    r"|Stack \(most recent call first\):"
)
_FRAME = re.compile(r'  File (?:"(.*)"|\?\?\?), line ([0-9]{1,9}|\?\?\?) in (.*)')
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


def parse(text):
    """Threads with at least one Python frame, the script's own first. Lines of any other kind are skipped.

    Of several dumps in one text the newest counts: a thread that comes again begins the next.
    """
    threads: list[dict[str, object]] = []
    seen: set[str] = set()
    frames: list[list[object]] = []
    for line in text.splitlines():
        header = _THREAD.match(line)
        if header:
            ident = header.group(1)
            if ident in seen:
                threads, seen = [], set()
            seen.add(ident)
            frames = []
            threads.append({"name": _plain(header.group(2) or ""), "main": False, "frames": frames})
            continue
        found = _FRAME.match(line)
        if found and threads and len(frames) < _MOST_FRAMES:
            file, number, function = found.groups()
            frames.append([_plain(file or ""), int(number) if number.isdigit() else 0, _plain(function)])
    threads = [thread for thread in threads if thread["frames"]]
    main = _main(threads)
    if main is not None:
        main["main"] = True
        threads = [main] + [thread for thread in threads if thread is not main]
    return threads[:_MOST_THREADS]


def _main(threads):
    """Threads are listed newest first, so the script's own is the last that no `threading` began."""
    for thread in reversed(threads):
        file, _, function = thread["frames"][-1]
        if not (function == "_bootstrap" and file.endswith("threading.py")):
            return thread
    return None


def _plain(text):
    """faulthandler writes what is not ASCII as escapes, and cuts what is long."""
    return _ESCAPE.sub(_character, text)[:_LONGEST]


def _character(found):
    number = int(next(group for group in found.groups() if group), 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else found.group(0)
