"""Floor 1, pure and sans-IO: bytes → canonical request; canonical chunks → bytes. One file per dialect."""
