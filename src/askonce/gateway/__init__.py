"""The gateway: one URL in front of every program that asks models."""
