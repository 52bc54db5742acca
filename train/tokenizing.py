"""Text to token ids, once per host: they stay in a memory-mapped file named after what they came from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import text
from errors import UserError, first_line
from ranks import Place, fail_together, gather

BUILTIN = Path(__file__).resolve().parent / "corpus" / "tokenizer.json"
END_TOKENS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "[SEP]")
HELDOUT_SHARE = 0.05
FORMAT = "gpt-pretrain tokens 1"
PIECES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids of a text; the arrays are read from disk as they are touched."""

    name: str
    key: str
    vocab_size: int
    training: np.ndarray
    heldout: np.ndarray


def load_tokenizer(what: str) -> Tokenizer:
    """The tokenizer named by --tokenizer: builtin, a tokenizer.json or its directory, a hub name."""
    path = BUILTIN if what == "builtin" else Path(what).expanduser()
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        found = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(what)
    # tokenizers raises bare Exception for unreadable files and for an unreachable hub alike.
    except Exception as error:
        raise UserError(
            f"no tokenizer could be read from {what}: {first_line(error)[:200]}",
            hint="give a tokenizer.json of the tokenizers library, a hub name while online, or builtin",
        ) from error
    # As some are saved for sentence embeddings: every document would lose all but its beginning.
    found.no_truncation()
    found.no_padding()
    return found


def prepare(data: str, tokenizer: str, cache: Path, place: Place) -> Tokens:
    """The tokens of `data`; the first rank of each host makes them if `cache` has none. Collective.

    Raises UserError on all ranks when one host lacks the text or has another one than the first host.
    """
    key = tokens = problem = None
    if place.local_rank == 0:
        try:
            key = _ensure(data, tokenizer, cache, place)
        except UserError as error:
            problem = UserError(f"on {place.host}: {error.message}", hint=error.hint)
    fail_together(problem)
    first = gather(key)[0]
    fail_together(_difference(key, first, place))
    try:
        if not (cache / first).is_dir():
            # The first local rank of this host keeps its cache elsewhere: make our own.
            _ensure(data, tokenizer, cache, place)
        tokens = _open(first, data, tokenizer, cache)
    except UserError as error:
        problem = UserError(f"rank {place.rank} on {place.host}: {error.message}", hint=error.hint)
    fail_together(problem)
    assert tokens is not None, "or all ranks have failed together"
    return tokens


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-pretrain"


def _difference(key: str | None, first: str, place: Place) -> UserError | None:
    if key in (None, first):
        return None
    return UserError(
        f"{place.host} has another text or tokenizer than the host of rank 0",
        hint="copy the same files to every host; they are compared by content",
    )


def _ensure(data: str, tokenizer_name: str, cache: Path, place: Place) -> str:
    tokenizer = load_tokenizer(tokenizer_name)
    source = text.find(data)
    key = _fingerprint(source, tokenizer)
    if not (cache / key).is_dir():
        began = time.monotonic()
        count = _tokenise(source, tokenizer, cache, key)
        if place.is_first:
            print(
                f"tokenised {source.name}: {count:,} tokens in {time.monotonic() - began:.1f} s", flush=True
            )
    return key


def _fingerprint(source: text.Text, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    digest.update(tokenizer.to_str().encode())
    for part in (source.training, source.heldout or ()):
        digest.update(b"\0part\0")
        for piece in text.pieces(part):
            digest.update(b"\0end\0" if piece is None else piece.encode())
    return digest.hexdigest()[:32]


def _tokenise(source: text.Text, tokenizer: Tokenizer, cache: Path, key: str) -> int:
    """Write the token files under a private name and rename them into place, whoever else does the same."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=cache))
    except OSError as error:
        raise UserError(
            f"{cache} cannot be written: {error.strerror}", hint="give another --cache_dir"
        ) from error
    try:
        dtype = _token_dtype(tokenizer)
        count = _write(text.pieces(source.training), tokenizer, draft / f"training.{dtype}")
        if source.heldout is None:
            _cut_tail(draft / f"training.{dtype}", draft / f"heldout.{dtype}", int(count * HELDOUT_SHARE))
        else:
            count += _write(text.pieces(source.heldout), tokenizer, draft / f"heldout.{dtype}")
        try:
            draft.rename(cache / key)
        except OSError:
            # Another host on the same home was first; its files hold the same ids.
            if not (cache / key).is_dir():
                raise
        return count
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(stream: Iterator[str | None], tokenizer: Tokenizer, path: Path) -> int:
    dtype = np.dtype(path.suffix[1:])
    end = next((token for name in END_TOKENS if (token := tokenizer.token_to_id(name)) is not None), None)
    between_documents = [] if end is None else [end]
    count = 0
    with path.open("wb") as out:
        # Many pieces at once: the tokenizer spreads them over the cores.
        while batch := list(islice(stream, PIECES_AT_ONCE)):
            words = [piece for piece in batch if piece is not None]
            encoded = iter(tokenizer.encode_batch(words, add_special_tokens=False))
            for piece in batch:
                ids = between_documents if piece is None else next(encoded).ids
                out.write(np.asarray(ids, dtype=dtype).tobytes())
                count += len(ids)
    return count


def _cut_tail(whole: Path, tail: Path, tokens: int) -> None:
    width = np.dtype(whole.suffix[1:]).itemsize
    cut = whole.stat().st_size - tokens * width
    with whole.open("r+b") as source, tail.open("wb") as out:
        source.seek(cut)
        shutil.copyfileobj(source, out)
        source.truncate(cut)


def _open(key: str, data: str, tokenizer_name: str, cache: Path) -> Tokens:
    tokenizer = load_tokenizer(tokenizer_name)
    dtype = _token_dtype(tokenizer)
    parts = {}
    for part in ("training", "heldout"):
        path = cache / key / f"{part}.{dtype}"
        # An empty file cannot be mapped.
        parts[part] = (
            np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype=dtype)
        )
    return Tokens(name=data, key=key, vocab_size=tokenizer.get_vocab_size(), **parts)


def _token_dtype(tokenizer: Tokenizer) -> str:
    return "uint16" if tokenizer.get_vocab_size() <= 1 << 16 else "uint32"
