"""What a run suffers from, and what to do: verdicts and signatures over what its hosts told. Pure."""
