"""How the cards of a host are connected, from nvidia-smi's tables."""

import re

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def add_nvlinks(cards, text):
    """Put the links of `nvidia-smi nvlink -s` under their GPU: (active, inactive)."""
    by_index = {card["index"]: card for card in cards}
    card = None
    for line in text.splitlines():
        head = re.match(r"\s*GPU (\d+):", line)
        link = re.match(r"\s*Link \d+: (\S+)", line)
        if head:
            card = by_index.get(int(head.group(1)))
        elif link and card is not None:
            active, dead = card.get("nvlinks", (0, 0))
            is_dead = "inactive" in link.group(1).lower()
            card["nvlinks"] = (active + (not is_dead), dead + is_dead)


def add_nvlink_errors(cards, text):
    """The sum of the errors of `nvidia-smi nvlink -e` under their GPU: those that had to be sent again, not
    what newer links correct all the time."""
    by_index = {card["index"]: card for card in cards}
    card = None
    for line in text.splitlines():
        head = re.match(r"\s*GPU (\d+):", line)
        error = re.match(r"\s*Link \d+: (?:Replay|Recovery|CRC|Effective) Errors: (\d+)\s*$", line)
        if head:
            card = by_index.get(int(head.group(1)))
        elif error and card is not None:
            card["nvlink_errors"] = card.get("nvlink_errors", 0) + int(error.group(1))


def offers_p2p(text):
    """Whether any two cards are ``OK`` in the matrix of `nvidia-smi topo -p2p r`; None without a matrix."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*GPU\d+\s+(X|OK|[A-Z]+)\b", line)]
    rows = [row[1:] for row in rows if not all(re.match(r"GPU\d+$", cell) for cell in row)]
    return any("OK" in row for row in rows) if rows else None


def topology(text):
    """``0-1`` -> ``NV12``, ``PIX``, ``SYS`` and so on: each pair of cards in the matrix of `nvidia-smi topo
    -m`. Its head is underlined even where nobody looks, and adapters stand in further columns."""
    rows = [[cell.strip() for cell in COLOUR.sub("", line).split("\t")] for line in text.splitlines()]
    head: list[str] = next((row for row in rows if len(row) > 1 and not row[0] and row[1] == "GPU0"), [])
    found = {}
    for row in rows:
        if re.match(r"GPU\d+$", row[0]):
            for name, cell in zip(head[1:], row[1:]):  # noqa: B905 (rows end early)
                if re.match(r"GPU\d+$", name) and int(row[0][3:]) < int(name[3:]):
                    found["%s-%s" % (row[0][3:], name[3:])] = cell
    return found
