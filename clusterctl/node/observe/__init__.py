"""What the ranks of a node do, and what they show when they seem to hang."""
