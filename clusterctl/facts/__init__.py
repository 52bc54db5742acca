"""What a node told, as typed values: raw, and None where the host could not tell. Pure."""
