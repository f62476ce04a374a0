"""The life of the platform's signing keys: bootstrap, rotation and emergency revocation.

A library that the drills of phase operations drive, and the commands of `python -m smoke.keys`.
"""
