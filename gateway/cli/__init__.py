"""Floor 8: the `penstock` command. One file per subcommand."""
