"""Run directories on the controller: private, and written whole or not at all."""
