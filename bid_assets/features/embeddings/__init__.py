"""Texts to vectors: the encoders, their files, and the cache of what has been encoded."""
