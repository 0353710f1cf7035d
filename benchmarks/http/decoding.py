"""D3 with its own decoder and a detector that does nothing."""

from idle import application

app = application("decoding")
