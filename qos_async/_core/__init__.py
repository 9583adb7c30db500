"""The protocol, pure: no await, no clock, no randomness, no environment, no log."""
