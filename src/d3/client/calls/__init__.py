"""The calls of the service, each described once for both clients.

Their results are what the clients' methods of the same names give.
"""
