"""Jobs and the catalog in SQLite or PostgreSQL: one schema, one set of statements."""
