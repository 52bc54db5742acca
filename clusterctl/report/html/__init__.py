"""Pages that are one file: style, charts and text inside, nothing loaded, nothing that runs."""
