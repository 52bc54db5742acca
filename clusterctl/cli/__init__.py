"""One file for each verb: arguments and screens. The only room that prints, exits or handles signals."""
