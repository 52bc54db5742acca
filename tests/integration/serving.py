"""Starts `clusterctl serve` as a user would, and reads the address that it prints."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit


class Serving:
    """One server, on a port of its own, for the runs of ``CLUSTERCTL_HOME``."""

    def __enter__(self) -> Serving:
        argv = [sys.executable, "-m", "clusterctl", "serve", "--port", "0"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == ["open"], words
        self.address = words[1]
        place = urlsplit(self.address)
        assert place.port is not None
        self.port = place.port
        self.base = f"http://{place.netloc}"
        return self

    @property
    def cookie(self) -> str:
        """What a browser is given for the token."""
        place = urlsplit(self.address)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("GET", f"{place.path}?{place.query}")
        answer = connection.getresponse()
        connection.close()
        assert answer.status == 303 and answer.headers["Location"] == "/"
        return answer.headers["Set-Cookie"].partition(";")[0]

    def end(self) -> int:
        """By Ctrl-C; its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(300)

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.communicate()
