"""Traces: spans made of the journal's records, exported by the control process."""
