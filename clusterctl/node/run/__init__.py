"""One node's part of a run: relay, agent, engine, rank waiters."""
