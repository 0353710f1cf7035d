"""The recipe `starter`: the packaged model, from photographs and rendered scenes."""
