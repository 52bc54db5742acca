"""What the sweep trains: a slope, by gradient descent. Stands for a training script; needs Python only."""

from __future__ import annotations

import argparse
import math
import os

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
rate = parser.parse_args().lr

slope = 0.0
for _step in range(200):
    slope -= rate * (slope - 3.0)
    if not math.isfinite(slope) or abs(slope) > 1e6:
        raise OverflowError(f"diverged with a learning rate of {rate}")
if os.environ["RANK"] == "0":
    print(f"final loss {(slope - 3.0) ** 2:.3g}")
