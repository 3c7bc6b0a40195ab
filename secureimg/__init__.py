"""Computing on images that nobody but their owner may see."""
