"""The rules of readiness: pure functions over plain values, standard library only, no pytest."""
