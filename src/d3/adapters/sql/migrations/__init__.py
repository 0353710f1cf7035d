"""The steps by which the tables came to be, run by :mod:`d3.adapters.sql.schema`."""
