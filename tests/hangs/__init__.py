"""Ranks that hang in every way we know, and what their hosts would show of them."""
