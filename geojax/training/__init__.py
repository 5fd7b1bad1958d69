"""Training that compiles end to end: an epoch is one program, planned before its first step."""
