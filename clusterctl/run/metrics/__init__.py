"""What ranks tell of their steps, on its way from their files to one line a step over all of them."""
