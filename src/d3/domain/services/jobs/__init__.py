"""Jobs: received into the spool, judged in the bulk lane, forgotten after some days."""
