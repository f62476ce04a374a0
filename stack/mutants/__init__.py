"""Small changes to the honest services, one at a time, made from their syntax trees: would the suite notice?

`operators` and `sql` say which changes, `catalogue` gives each an id, `process` is a service's process with
one of them compiled in at import, `board` switches it on. No file changes.
"""
