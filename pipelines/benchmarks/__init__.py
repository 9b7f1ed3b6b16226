"""How fast, how large, how much of it is seen: measurements."""
