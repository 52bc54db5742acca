"""Hostfile text and selections become an Inventory, whose order is the node rank. Pure."""
