"""Decisions without waiting: keys, entries, codecs, policy, flights, flows."""
