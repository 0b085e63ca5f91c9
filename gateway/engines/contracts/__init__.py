"""The tensor interfaces of models: how a job becomes a request, and responses become chunks.

One file per contract, one line each in `registry`. All of it is pure: interface and job in, bytes out.
"""
