"""What can be broken in the embedded platform: a proxy that rewrites answers, and parts that misbehave.

The services know nothing of this package; `stack.service` puts them together with it.
"""
