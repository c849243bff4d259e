"""The store in MongoDB, or what speaks its protocol: jobs, the queue, the mutex, the catalog."""
