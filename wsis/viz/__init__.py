"""Pictures for people: overlays, colour codes, contact sheets and the HTML report."""
