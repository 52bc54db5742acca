"""Listening and dialling between the hosts, to prove what connects to what."""
