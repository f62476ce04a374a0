"""The self-test: a platform is given every fault of a catalogue; the suite must notice each one."""
