"""Whether a finished artifact answers what its readers will ask."""
