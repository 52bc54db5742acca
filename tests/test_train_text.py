from __future__ import annotations

import gzip
import json
import lzma
import sys
from pathlib import Path

import pytest

for package in ("torch", "deepspeed", "tokenizers"):
    pytest.importorskip(package)
TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import torch  # noqa: E402

import text  # noqa: E402
import tokenizing  # noqa: E402
from errors import UserError  # noqa: E402
from ranks import Place  # noqa: E402

ALONE = Place(rank=0, world_size=1, local_rank=0, host="here", device=torch.device("cpu"), backend="gloo")
END = 0


def documents(what: object) -> list[str]:
    joined, found = "", []
    for piece in text.pieces(text.find(str(what)).training):
        if piece is None:
            found.append(joined)
            joined = ""
        else:
            joined += piece
    assert not joined
    return found


def tokens_of(path: Path, cache: Path) -> tokenizing.Tokens:
    key = tokenizing._ensure(str(path), "builtin", cache, ALONE)
    return tokenizing._open(key, str(path), "builtin", cache)


def test_the_corpus_is_the_plays_and_its_tokenizer_gives_them_back() -> None:
    whole = lzma.decompress(text.BUILTIN.read_bytes()).decode()
    assert "Who's there?" in whole and "gutenberg" not in whole.lower()
    tokenizer = tokenizing.load_tokenizer("builtin")
    assert tokenizer.get_vocab_size() == 8192
    assert tokenizer.token_to_id("<|endoftext|>") == END
    sample = whole[100_000:120_000]
    ids = tokenizer.encode(sample).ids
    assert tokenizer.decode(ids) == sample
    assert len(ids) < len(sample) / 3
    # Any text at all survives, not only the corpus's letters.
    assert tokenizer.decode(tokenizer.encode("Größe 网络 🐍").ids) == "Größe 网络 🐍"


def test_pieces_join_to_the_document_whatever_its_size(tmp_path: Path) -> None:
    content = "".join(f"line {number}\n" for number in range(30_000))
    (tmp_path / "long.txt").write_text(content, encoding="utf-8")
    assert documents(tmp_path / "long.txt") == [content]


def test_a_directory_gives_its_files_in_order_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("bee\n")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"ay\n"))
    (tmp_path / "notes.bin").write_bytes(b"\xff\xff")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.md").write_text("sea\n")
    (tmp_path / "sub" / "D.TXT").write_text("dee\n")
    (tmp_path / "sub" / "e.jsonl.gz").write_bytes(gzip.compress(b'{"text": "ee"}\n'))
    (tmp_path / "sub" / "f.ndjson").write_text('{"text": "eff"}\n')
    assert documents(tmp_path) == ["ay\n", "bee\n", "dee\n", "sea\n", "ee", "eff"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "plain.txt"])
def test_the_mark_that_windows_puts_first_is_no_text(tmp_path: Path, name: str) -> None:
    content = {"rows.csv": "text,id\none,1\n", "rows.jsonl": '{"text": "one"}\n', "plain.txt": "one"}[name]
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert documents(tmp_path / name) == ["one"]


def test_a_line_without_end_comes_in_pieces(tmp_path: Path) -> None:
    content = "x" * (3 * text.PIECE_CHARACTERS) + "\ny\n"
    (tmp_path / "one.txt").write_text(content)
    (tmp_path / "two.jsonl").write_text(json.dumps({"text": content}))
    assert documents(tmp_path) == [content, content]
    found = [piece for piece in text.pieces(text.find(str(tmp_path)).training) if piece]
    assert max(map(len, found)) <= 2 * text.PIECE_CHARACTERS


def test_rows_of_a_csv_file_are_documents(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('id,text\n1,"one, and\nits second line"\n2,two\n')
    assert documents(rows) == ["one, and\nits second line", "two"]
    (tmp_path / "rows.tsv").write_text("text\tid\nthree\t3\n")
    assert documents(tmp_path / "rows.tsv") == ["three"]
    rows.write_text("text;id\none, and two;1\n")
    assert documents(rows) == ["one, and two"]
    rows.write_text("text,id\none,1\ntwo, and its end,2\n")
    with pytest.raises(UserError, match=r"rows\.csv line 3 has more fields than its first line"):
        documents(rows)
    rows.write_text("id,body\n1,one\n")
    with pytest.raises(UserError, match=r"no column 'text', only \['id', 'body'\]"):
        documents(rows)


def test_a_broken_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"text": "one"}\n\n{"text": "tw')
    with pytest.raises(UserError, match=r"rows\.jsonl line 3: not JSON"):
        documents(lines)
    packed = lzma.compress(b"To be, or not to be.\n" * 1000)
    (tmp_path / "cut.xz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "noise.xz").write_bytes(b"no archive")
    packed = gzip.compress(b"To be, or not to be.\n" * 1000)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "spoilt.gz").write_bytes(packed[:12] + b"\xff" * 40)
    (tmp_path / "cut.csv").write_text('text\n"open')
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    for name in ("cut.xz", "noise.xz", "cut.gz", "spoilt.gz", "cut.csv", "cut.parquet"):
        with pytest.raises(UserError, match="cannot be read"):
            documents(tmp_path / name)


def test_rows_of_a_jsonl_file_are_documents(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": word}) + "\n" for word in ("one", "two")))
    assert documents(rows) == ["one", "two"]
    rows.write_text(json.dumps({"body": "one"}) + "\n")
    with pytest.raises(UserError, match="no column 'text'"):
        documents(rows)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        text.find(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="holds no text"):
        text.find(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8"):
        documents(tmp_path)


def test_wikitext_without_the_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match="wikitext-2") as caught:
        text.find("wikitext")
    assert "--data builtin" in caught.value.hint


def test_tokens_are_made_once_and_found_again_by_content(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("To be, or not to be.\n" * 400)
    cache = tmp_path / "cache"
    first = tokens_of(tmp_path / "one.txt", cache)
    made = (cache / first.key / "training.uint16").stat().st_mtime_ns
    (tmp_path / "moved.txt").write_text("To be, or not to be.\n" * 400)
    again = tokens_of(tmp_path / "moved.txt", cache)
    assert again.key == first.key
    assert (cache / first.key / "training.uint16").stat().st_mtime_ns == made
    (tmp_path / "one.txt").write_text("To be, or not to be!\n" * 400)
    assert tokens_of(tmp_path / "one.txt", cache).key != first.key
    assert sorted(path.name for path in cache.iterdir() if "." in path.name) == []


def test_the_end_of_the_text_is_held_out(tmp_path: Path) -> None:
    content = "".join(f"Enter the {number}th murderer.\n" for number in range(2000))
    (tmp_path / "one.txt").write_text(content)
    tokens = tokens_of(tmp_path / "one.txt", tmp_path / "cache")
    whole = [*tokens.training.tolist(), *tokens.heldout.tolist()]
    assert len(tokens.heldout) == int(len(whole) * 0.05)
    assert whole.pop() == END
    assert tokenizing.load_tokenizer("builtin").decode(whole) == content


def test_losing_the_race_for_the_cache_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.txt").write_text("Out, damned spot!\n" * 100)
    cache = tmp_path / "cache"
    rename = Path.rename

    def other_host_first(self: Path, target: Path) -> Path:
        target.mkdir()
        (target / "training.uint16").write_bytes(b"\1\0" * 19)
        (target / "heldout.uint16").write_bytes(b"\1\0")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_host_first)
    tokens = tokens_of(tmp_path / "one.txt", cache)
    assert tokens.training.tolist() == [1] * 19
    assert [path.name for path in cache.iterdir()] == [tokens.key]


def test_an_unreadable_tokenizer_is_said(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer could be read"):
        tokenizing.load_tokenizer(str(tmp_path))
