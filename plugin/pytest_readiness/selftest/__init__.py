"""Proves that the suite detects faults: a platform gets every fault of a catalogue, one at a time."""
