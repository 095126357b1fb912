"""What the comparisons share: cells that survive an interruption, tables in a page, environments of other programs."""
