"""Reading small files of /proc and /sys, where a missing file is an answer."""

import os


def read(path):
    """The file's text, stripped; "" where it is missing or refuses (an interface that is down, for one)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def number(path):
    """The file's decimal number, or None."""
    text = read(path)
    return int(text) if text.lstrip("-").isdigit() else None


def listing(path):
    """Sorted names in a directory; none where it is missing or refuses."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def which(name, path):
    """Full path of an executable on ``path`` (colon-separated), or ""."""
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    return ""


def owner_of(pid):
    """(user name or uid, command line) of a process; ("?", "") where it is not visible here."""
    try:
        uid = os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return "?", ""
    command = read("/proc/%d/cmdline" % pid).replace("\0", " ").strip() or read("/proc/%d/comm" % pid)
    return user_name(uid), command


def user_name(uid):
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
