"""Proof by the real thing: programs of the training interpreter, and what the hosts send to one another."""
