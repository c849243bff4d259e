"""The stores: jobs, the queue and the mutex, and the catalog, in SQLite, PostgreSQL or MongoDB."""
