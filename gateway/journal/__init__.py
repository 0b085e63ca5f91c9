"""The journal: the durable, never-sampled record of every inference."""
