"""The processes of one gateway: workers, the embedded Triton, and who ends when."""
