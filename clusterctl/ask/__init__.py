"""Asking all hosts side by side, and copying to and from them: one HostSession for each host."""
