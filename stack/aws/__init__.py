"""The AWS APIs of the embedded platform: an emulator in a process of its own, seeded as the contract says."""
