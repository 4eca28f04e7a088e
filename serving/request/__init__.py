"""A request on its way: the HTTP edge in front of vLLM, which reads our options and adds our report."""
