"""What several programs of a node need: processes, files, locks, watching, the lines to the controller."""
