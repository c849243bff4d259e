"""The interval kernel: native code and what Python needs to call it."""
