"""What a run suffers from, and what to do: verdicts over the evidence of its hosts. Pure."""
