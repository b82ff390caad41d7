"""How long tests wait for what has to come. A condition that holds ends its wait at once, so only a failure takes
longer for it; a machine that does five other things must not be one."""

PATIENCE = 4.0
"""What every wait and every test's own limit is multiplied by."""
