"""Writes the record of this Python's costs: `make cost`."""

from __future__ import annotations

from tests.cost.path import measure
from tests.cost.record import read, write


def main() -> None:
    before, costs = read(), measure()
    write(costs)
    for name, cost in costs.items():
        was = before.get(name)
        print(name, *cost, f"(was {was[0]} {was[1]})" if was else "(new)")


if __name__ == "__main__":
    main()
