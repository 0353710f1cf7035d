"""What the domain needs from outside, as Protocols; adapters implement them.

Ports are synchronous. What takes turns returns ``concurrent.futures.Future``s, so that waiting
never holds a thread.
"""
