"""How a runtime gets to a goal, as data: one pure module a runtime, from a fresh sight to the next effects."""
