"""Floor 0, pure: the canonical request, chunk, usage and finish, and one error tree."""
