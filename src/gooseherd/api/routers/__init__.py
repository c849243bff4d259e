"""What the framework serves: everything but the bytes."""
