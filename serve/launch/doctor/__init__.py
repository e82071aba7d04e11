"""Looks at this node and at a config and says what would keep the group from starting; changes nothing."""
