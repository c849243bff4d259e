"""What demo and smoke share: a service of their own, inputs, the naive reading, and checks against it."""
