"""Small fake files in the formats of the real data sets."""
