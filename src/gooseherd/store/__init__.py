"""The document store: jobs, the queue and the mutex, and the catalog. The only room that knows MongoDB."""
