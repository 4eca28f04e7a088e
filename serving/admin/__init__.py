"""Administration under /guard/v1/: who may do what, and the routes by noun."""
