"""What to write into a page, a hub or a program so that a viewer draws files of this service."""
