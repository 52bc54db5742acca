"""What runs on the nodes: standard library, Python 3.8, sent over stdin and never installed."""
