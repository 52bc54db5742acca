# %% [markdown]
# A run from a notebook: it goes on in the background while cells are evaluated.
# Open this file as a notebook (Jupytext, VS Code), or run it from top to bottom.

# %%
from __future__ import annotations

from pathlib import Path

from clusterctl import Cluster, LaunchOptions

# %% Two virtual hosts. With machines of your own: cluster = Cluster.from_hostfile("hostfile")
sandbox = Cluster.sandbox(nodes=2)
cluster = sandbox.__enter__()
print(cluster.doctor(quick=True).verdict)

# %% What would run, before anything does
options = LaunchOptions(workdir=str(Path(__file__).parent))
plan = cluster.plan("fit_line.py", ["--lr", 0.1], options=options)
print(f"{plan.world_size} ranks, master {plan.master_addr}")

# %% Start it. The cell ends at once; `run` tells how it stands
run = cluster.launch("fit_line.py", ["--lr", 0.1], options=options)
print(run)

# %% What happens, as it happens. Interrupt this cell whenever you like: the run goes on
for event in run:
    if event["event"] in ("started", "rank-start", "rank-exit"):
        print(event["event"], event["host"], event.get("rank", ""))

# %% How it ended, and what rank 0 printed. `run.stop()` would have ended it early
print(run.wait().status)
print(run.logs(rank=0))

# %% The virtual hosts are taken down; runs that still go on there are stopped first
sandbox.__exit__(None, None, None)
