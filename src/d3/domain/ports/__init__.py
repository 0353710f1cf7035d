"""What the domain needs from outside, each need a Protocol; adapters implement them.

Ports are synchronous. What queues hands out ``concurrent.futures.Future``s, so that waiting never
holds a thread.
"""
