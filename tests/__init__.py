"""Not to be taken for the packages of this name that others install beside their own."""
