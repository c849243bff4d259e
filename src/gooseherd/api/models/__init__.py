"""The JSON of responses, a module for each resource."""
