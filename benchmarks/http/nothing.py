"""D3 with a decoder and a detector that do nothing."""

from idle import NoDecoder, application

app = application("nothing", decoder=NoDecoder())
