"""Bytes <-> messages. Nothing a node sends raises anything but `Garbled`."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import msgspec

from clusterctl.errors import in_words

Message = TypeVar("Message")

_encoder = msgspec.json.Encoder()


class Garbled(Exception):
    """A line that is none of the messages expected; its text says why, in one sentence."""


class Decoder(Generic[Message]):
    """Decodes lines into one tagged union."""

    def __init__(self, union: Any) -> None:
        self._decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(union)

    def decode(self, line: bytes) -> Message:
        """Raises Garbled for anything that is not one of the union's messages."""
        try:
            return self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Garbled(in_words(error)) from error
        except RecursionError as error:
            raise Garbled("it is nested too deeply") from error


def encode(message: msgspec.Struct) -> bytes:
    """One line, with its end."""
    try:
        return _encoder.encode(message) + b"\n"
    except UnicodeEncodeError:  # a file name that is no UTF-8: as escapes, which the node turns back
        return json.dumps(msgspec.to_builtins(message)).encode("ascii") + b"\n"
