"""The recommended run to its end, and what is made of it: the adapter, its card, a merged model."""
