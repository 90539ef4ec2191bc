"""All that waits: the sync and the async stream, and what ends their waits."""
