"""Floor 1, pure: endpoint → version → replica. Time and randomness are arguments; decisions are returned."""
