"""Everything that leaves the house: guarded, resumable reads of upstream files."""
