"""What files are made of: detection, decompression, and the formats' own rules."""
