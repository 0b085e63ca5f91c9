"""Floor 6: the control process. It changes the endpoints while the gateway serves, and sums the workers' counters.

store.py    what was decided, and by whom: STATE/live.json and STATE/audit.jsonl
hub.py      the workers' end: who is linked, what they serve, what they report
desk.py     the decisions: change, reload; each is recorded, kept, and sent to the workers, in this order
admin.py    the desk over HTTP on STATE/admin.sock
process.py  all of it in one process, and the metrics port
"""
