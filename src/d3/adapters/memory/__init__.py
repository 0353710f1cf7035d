"""Everything in this process's memory: for tests, trials and small caches."""
