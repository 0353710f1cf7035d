"""D3's ports filled in, one folder per technology; no adapter imports another."""
